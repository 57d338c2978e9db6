"""The sample project is tried with an installed wheel, by try_wheel.py: it is no part of this suite."""

collect_ignore = ["sample"]
