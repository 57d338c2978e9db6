"""Code page 437: what the 256 characters of a PC's text screen look like, in Unicode.

The control codes are their pictures, as in video memory. The three blanks (00h, 20h and FFh) are all a space.
"""

CHARACTERS = (
    " ☺☻♥♦♣♠•◘○◙♂♀♪♫☼►◄↕‼¶§▬↨↑↓→←∟↔▲▼"
    " !\"#$%&'()*+,-./0123456789:;<=>?"
    "@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_"
    "`abcdefghijklmnopqrstuvwxyz{|}~⌂"
    "ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒ"
    "áíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐"
    "└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀"
    "αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■ "
)

_CODES = {character: code for code, character in enumerate(CHARACTERS)} | {" ": 0x20}


def decode(codes: bytes) -> str:
    """Returns the characters of `codes`, one for each byte."""
    return "".join(map(CHARACTERS.__getitem__, codes))


def encode(character: str) -> int | None:
    """Returns the code of one character, 20h for a space; None if the code page lacks it."""
    return _CODES.get(character)
