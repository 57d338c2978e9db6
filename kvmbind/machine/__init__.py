"""Run real-mode images as on a PC."""
