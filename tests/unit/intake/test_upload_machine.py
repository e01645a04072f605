"""Uploads in any order of steps are what a model of the protocol says, at one server and at two; `make fuzz`
does it for longer."""

from __future__ import annotations

from tests.fuzz.uploads import SharedUploadMachine, UploadMachine, machine_settings

UploadMachine.TestCase.settings = machine_settings(60)
TestUploads = UploadMachine.TestCase
SharedUploadMachine.TestCase.settings = machine_settings(60)
TestSharedUploads = SharedUploadMachine.TestCase
