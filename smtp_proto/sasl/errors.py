"""What goes wrong inside a mechanism.

Knows one error for it. Must not know any mechanism.
"""


class SASLError(Exception):
    """The peer broke the mechanism, or the credentials cannot be expressed in it.

    The text tells which, and never quotes a credential. In the middle of an exchange the client
    must then cancel it with "*" (RFC 4954 4) and must not try the same credentials elsewhere.
    """
