"""Images: finding out what a file is, and where it goes in a PC's memory and disks."""
