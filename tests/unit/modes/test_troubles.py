"""What keeps a watch from being in step, in words."""

from __future__ import annotations

from netsync.modes.troubles import About, Trouble, Troubles


def test_words_of_a_peer_are_safe_to_show() -> None:
    troubles = Troubles()
    troubles.meet(About.HELD, Trouble(25, "held\nOK: all is well\x1b[2J", retryable=False))
    assert troubles.words.isprintable()
    assert troubles.words.startswith("held")


def test_the_gravest_is_told_first_and_none_hides_another() -> None:
    troubles = Troubles()
    troubles.meet(About.PATHS, Trouble(23, "a file", retryable=False))
    troubles.meet(About.LINK, Trouble(10, "the link", retryable=True))
    assert troubles.words == "the link"
    troubles.clear(About.LINK)
    assert troubles.words == "a file"
    troubles.clear(About.PATHS)
    assert not troubles
