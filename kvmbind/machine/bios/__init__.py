"""A PC's BIOS: stubs in a ROM that trap to the host, and the services behind them, one module for each group."""
