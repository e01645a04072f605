"""`upscaled keys` and `upscaled callers`, and what a start without keys says."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

from tests.e2e.conftest import running_server
from tests.e2e.keyed import command
from upscaled import Client
from upscaled_server.access.keys import generate, is_key


def test_from_a_refused_start_to_a_server_that_others_can_reach(tmp_path: Path) -> None:
    folder = {"UPSCALED_DATA_DIR": str(tmp_path)}
    refused = command("serve", "--listen", "0.0.0.0:0", **folder)
    assert refused.returncode == 1
    assert "`upscaled keys create NAME`" in refused.stderr
    assert "UPSCALED_AUTH=none" in refused.stderr
    # No server can run yet, so the command works in the folder itself.
    made = command("keys", "create", "thumbs", "--description", "website", **folder)
    assert is_key(made.stdout.strip())
    with running_server(UPSCALED_LISTEN="0.0.0.0:0", **folder) as server:
        key = command("keys", "create", "ops", "--admin", **folder).stdout.strip()
        with Client(server.address, api_key=made.stdout.strip(), timeout=30) as client:
            assert client.server_info().authentication_required
        listed = command("keys", "list", "--json", "--server", server.address, "--api-key", key)
        rows = [json.loads(line) for line in listed.stdout.splitlines()]
        assert [(row["caller"], row["admin"], row["description"]) for row in rows] == [
            ("ops", True, ""),
            ("thumbs", False, "website"),
        ]
        assert key[16:] not in listed.stdout


def test_a_key_is_rotated_revoked_and_shown_as_such(tmp_path: Path) -> None:
    folder = {"UPSCALED_DATA_DIR": str(tmp_path)}
    old = command("keys", "create", "anna", "--lifetime", "90d", **folder).stdout.strip()
    new = command("keys", "rotate", old[:16], "--overlap", "1h", **folder).stdout.strip()
    assert is_key(new)
    assert new != old
    ended = command("keys", "revoke", old[:16], **folder)
    assert f"{old[:16]} of anna works no more" in ended.stderr
    table = command("keys", "list", "anna", **folder).stdout
    assert f"{old[:16]}  anna" in table
    assert "revoked" in table
    assert "until" in table


def test_limits_of_a_caller_are_set_listed_and_deleted(tmp_path: Path) -> None:
    folder = {"UPSCALED_DATA_DIR": str(tmp_path)}
    done = command(
        "callers", "set", "anna", "--weight", "2.5", "--max-priority", "batch",
        "--allowed-model", "realesr-animevideov3", **folder,
    )  # fmt: skip
    assert "real-esrgan-animevideo-v3" in done.stdout
    command("callers", "set", "anna", "--max-concurrent", "3", "--allowed-model", "all", **folder)
    row = json.loads(command("callers", "list", "--json", **folder).stdout)
    assert (row["weight"], row["max_priority"], row["max_concurrent"], row["allowed_models"]) == (
        2.5,
        "batch",
        3,
        [],
    )
    assert command("callers", "delete", "anna", **folder).returncode == 0
    assert command("callers", "list", "--json", **folder).stdout == ""


def test_what_goes_wrong_is_one_line_with_the_next_move(tmp_path: Path) -> None:
    folder = {"UPSCALED_DATA_DIR": str(tmp_path)}
    cases = {
        ("keys", "create", "Anna"): "caller.name",
        ("keys", "create", "anna", "--lifetime", "soon"): "such as 90d",
        ("keys", "revoke", "upk_aaaaaaaaaaaa"): "`upscaled keys list` shows them",
        ("callers", "set", "anna", "--allowed-model", "nosuch"): "nosuch",
        ("callers", "set", "anna", "--weight", "0"): "caller.weight",
        ("callers", "delete", "nobody"): "`upscaled callers list` shows them",
        ("keys", "list", "--server", "127.0.0.1:1"): "no upscaled server answers at 127.0.0.1:1",
    }
    for arguments, expected in cases.items():
        done = command(*arguments, **folder)
        assert done.returncode in (1, 2), arguments
        assert expected in done.stderr, (arguments, done.stderr)
        assert "Traceback" not in done.stderr


def test_a_key_for_the_file_is_made_without_a_server() -> None:
    assert is_key(command("keys", "generate").stdout.strip())


def test_a_damaged_database_stops_the_start_and_is_left_as_it_is(tmp_path: Path) -> None:
    folder = {"UPSCALED_DATA_DIR": str(tmp_path)}
    command("keys", "create", "anna", **folder)
    database = tmp_path / "state.db"
    database.write_bytes(b"")
    for arguments in (("serve", "--listen", "127.0.0.1:0"), ("keys", "list")):
        done = command(*arguments, **folder)
        assert done.returncode == 1
        assert f"the database {database} is damaged" in done.stderr
        assert "Traceback" not in done.stderr
    assert database.read_bytes() == b""


def test_an_entry_that_was_changed_by_hand_stops_the_start(tmp_path: Path) -> None:
    folder = {"UPSCALED_DATA_DIR": str(tmp_path)}
    command("keys", "create", "anna", **folder)
    connection = sqlite3.connect(tmp_path / "state.db")
    with connection:
        connection.execute("UPDATE entries SET value = CAST(replace(value, 'false', 'true') AS BLOB)")
    connection.close()
    done = command("serve", "--listen", "127.0.0.1:0", **folder)
    assert done.returncode == 1
    assert "is not what was written" in done.stderr


def test_a_file_of_keys_that_cannot_be_read_stops_the_start(tmp_path: Path) -> None:
    file = tmp_path / "keys.yaml"
    file.write_text(f"anna:\n  keys: [{generate()}]\n  colour: red\n")
    done = command(
        "serve",
        "--listen",
        "0.0.0.0:0",
        UPSCALED_DATA_DIR=str(tmp_path / "data"),
        UPSCALED_API_KEYS_FILE=str(file),
    )
    assert done.returncode == 1
    assert "anna.colour: Extra inputs are not permitted" in done.stderr


def test_others_on_the_machine_cannot_open_what_is_in_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir(mode=0o755)
    with running_server(UPSCALED_DATA_DIR=str(folder)):
        modes = {each.name: each.stat().st_mode & 0o777 for each in folder.iterdir()}
    assert modes.pop("admin.sock") == 0o600
    assert {mode for name, mode in modes.items() if name.startswith(("state.db", "lock"))} == {0o600}


def test_a_path_too_long_for_a_socket_leaves_the_server_without_one(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 100)
    log = tmp_path / "log"
    with running_server(log, UPSCALED_DATA_DIR=str(folder)):
        assert not (folder / "admin.sock").exists()
    assert "set UPSCALED_DATA_DIR to a shorter path" in log.read_text()
