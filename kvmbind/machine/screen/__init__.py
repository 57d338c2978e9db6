"""What a PC's screen shows: text, pictures, fonts, colours; and how a terminal and files show it."""
