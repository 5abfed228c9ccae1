"""What is wrong with a rule, and where in its text. How it is found is not known here."""


class RuleFault(Exception):
    """A rule that is refused when it is applied; the message says what is wrong and what is allowed.

    `column` counts the characters of the rule's text from 1, over all of its lines.
    """

    def __init__(self, message: str, column: int) -> None:
        super().__init__(f"column {column}: {message}")
        self.message = message
        self.column = column
