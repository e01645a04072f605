"""Keys are recognisable, unguessable, and kept only as a hash."""

from __future__ import annotations

import hashlib

import pytest

from upscaled_server.access.keys import ID_LENGTH, Key, digest, generate, is_id, is_key, looks_like_key

# Of the form of a key, and the same in every process: the names of tests are made of it.
WHOLE = f"upk_{'a' * 12}_{'b' * 43}"


def test_a_key_begins_with_its_id_and_has_at_least_128_random_bits() -> None:
    whole = generate()
    assert is_key(whole)
    assert is_id(whole[:ID_LENGTH])
    assert looks_like_key(whole)
    secret = whole[ID_LENGTH + 1 :]
    assert 62 ** len(secret) > 2**255


def test_no_two_keys_are_alike() -> None:
    made = [generate() for _ in range(1000)]
    assert len({key[:ID_LENGTH] for key in made}) == len({key[ID_LENGTH:] for key in made}) == 1000


def test_what_is_kept_is_the_sha256_of_the_whole_key() -> None:
    whole = generate()
    assert digest(whole) == hashlib.sha256(whole.encode()).digest()


@pytest.mark.parametrize("text", ["", "upk_", "upk_" + "a" * 12, WHOLE[:-1], WHOLE + "a", " " + WHOLE])
def test_what_is_not_whole_is_no_key(text: str) -> None:
    assert not is_key(text)


def test_bytes_that_are_no_text_have_a_hash_too() -> None:
    assert len(digest("Bearer \udcff\udc80")) == 32


def test_a_key_works_until_it_expires_or_is_revoked() -> None:
    key = Key("upk_aaaaaaaaaaaa", "anna", b"", created=0.0, expires=10.0)
    assert key.works_at(9.9)
    assert not key.works_at(10.0)
    assert not key.ended_at(5.0).works_at(5.0)
