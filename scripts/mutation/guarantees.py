"""The protections behind the guarantees of ``SECURITY.md`` that the other tables have no row of.

Rows like those of ``table``: so that every guarantee has a test that fails without it.
"""

from __future__ import annotations

from typing import Final

from mutation.table import Mutation

LIES: Final = "tests/hostile/test_lying_peer.py"
CLIENT: Final = "tests/hostile/test_lying_client.py"
SERVER: Final = "tests/hostile/test_lying_server.py"
STRANGERS: Final = "tests/hostile/test_strangers.py"
DELETES: Final = "tests/hostile/test_lying_about_deletes.py"
GUARDS: Final = "tests/integration/test_guards.py"
MOVING: Final = "tests/hostile/test_moving_tree.py"
CHANGES: Final = "tests/unit/transfer/test_listing_changes.py"
SILENCE: Final = "tests/unit/net/test_channel_time.py"
KILLED: Final = "tests/fault/test_killed_anywhere.py"
ATTRIBUTES: Final = (
    "tests/unit/transfer/test_xattrs.py"
    "::test_a_module_that_forbids_specials_takes_no_attribute_that_grants_privileges"
)
COMPARED: Final = "tests/unit/plan/test_compare.py"
POWER: Final = "-m slow tests/fault/test_power_cut.py::test_what_was_acknowledged_survives"
MATCHED: Final = "tests/unit/delta/test_match.py::test_work_is_linear_in_the_input"

MUTATIONS: Final = (
    # --- what a peer may say
    Mutation(
        "only a directory that is open is listed", "netsync/transfer/unfolding.py",
        'raise ProtocolError(f"directory {listing.directory} is not open", op="receive")', "return",
        f"{LIES}::test_a_lie_in_the_listing_ends_the_session",
    ),
    Mutation(
        "a link leads to a file that was listed", "netsync/transfer/linking.py",
        "elif entry.link >= number or not self._groups.has(entry.link, entry.kind):", "elif False:",
        f"{SERVER}::test_a_listing_that_cannot_be_is_refused",
    ),
    Mutation(
        "a number that was not offered is no file", "netsync/transfer/offers.py",
        'raise ProtocolError(f"entry {number} was not offered as a file", op="receive")',
        "return Offered(number, entries[0], path_of, locate)",
        f"{CLIENT}::test_m45_a_want_for_what_was_not_offered_is_refused",
    ),
    Mutation(
        "a block has a size that blocks have", "netsync/delta/signature.py",
        "if size < BLOCK_MIN or size & (size - 1):", "if False:",
        "tests/unit/delta/test_signature.py",
    ),
    Mutation(
        "a block is no larger than its file calls for", "netsync/delta/signature.py",
        "if size > max(BLOCK_FREE, block_size_for(self.basis_size)):", "if False:",
        f"{LIES}::test_a_lie_of_the_target_ends_the_session",
    ),
    Mutation(
        "a signature has the entries of its file", "netsync/delta/signature.py",
        "if len(self.entries) != wanted:", "if False:",
        "tests/unit/delta/test_signature.py",
    ),
    Mutation(
        "signatures hold so much and no more", "netsync/transfer/signatures_taken.py",
        "if self._held > SIGNATURES_MAX:", "if False:",
        f"{LIES}::test_a_lie_of_the_target_ends_the_session",
    ),
    Mutation(
        "a digest is as long as digests are", "netsync/wire/messages.py",
        "Digest = Annotated[bytes, Meta(min_length=16, max_length=32)]", "Digest = bytes",
        "tests/unit/wire/test_codec.py",
    ),
    Mutation(
        "a timeout is one that can be", "netsync/wire/messages.py",
        "Seconds = Annotated[int, Meta(ge=1, le=86400)]", "Seconds = int",
        f"{CLIENT}::test_m13_a_timeout_that_cannot_be_is_refused",
    ),
    Mutation(
        "whatever a field holds is the peer's fault", "netsync/wire/codec.py",
        "except (msgspec.MsgspecError, RecursionError, ValueError) as error:",
        "except ZeroDivisionError as error:",
        "tests/hostile/test_any_field.py::test_any_field_of_a_push_overridden",
    ),
    Mutation(
        "any bytes are messages or one error", "netsync/wire/codec.py",
        "except (msgspec.MsgspecError, RecursionError, ValueError) as error:",
        "except ZeroDivisionError as error:",
        "tests/property/test_corpus.py tests/property/test_framing.py",
    ),
    Mutation(
        "a peer is told the path that it named", "netsync/tree/roots.py",
        'raise RefusedError("the path leaves the module", op="open", where=path)',
        'raise RefusedError(os.readlink(f"/proc/self/fd/{anchor.fd}"), op="open", where=path)',
        f"{CLIENT}::test_m57_a_fault_tells_no_local_path",
    ),
    # --- who, and how long
    Mutation(
        "who is connected stays when certificates change", "netsync/server/serve.py",
        "if running.peer.serial in settings.identity.revoked:", "if True:",
        f"{STRANGERS}"
        "::test_f59_certificate_and_ca_are_rotated_under_load_and_no_session_is_dropped",
    ),
    Mutation(
        "what decides about trust is changed by its owner only", "netsync/identity/files.py",
        "path: Path, forbidden: int = OTHERS_MAY_WRITE)", "path: Path, forbidden: int = 0)",
        "tests/unit/identity/test_directory.py::test_a_certificate_others_can_change_is_refused",
    ),
    Mutation(
        "a handshake has its time", "netsync/net/dial.py",
        "with trio.fail_after(handshake_timeout):", "with trio.fail_after(10**6):",
        "tests/unit/net/test_dial.py"
        "::test_a_client_that_never_finishes_the_handshake_is_dropped",
    ),
    Mutation(
        "who is silent is given up", "netsync/net/channel.py",
        "with trio.move_on_after(self.timeout) as scope:",
        "with trio.move_on_after(10**6) as scope:",
        f"{SILENCE}::test_silence_past_the_timeout_is_a_stall",
    ),
    Mutation(
        "who takes nothing is given up", "netsync/net/channel.py",
        "with trio.CancelScope(deadline=trio.current_time() + self.timeout) as scope:",
        "with trio.CancelScope() as scope:",
        f"{SILENCE}::test_a_peer_that_takes_nothing_and_says_nothing_is_a_stall",
    ),
    # --- what may come of it
    Mutation(
        "no end of a connection is a commit", "netsync/transfer/source.py",
        "            message, tail = await self._channel.receive()\n            match message:\n"
        "                case m.Credit",
        "            try:\n"
        "                message, tail = await self._channel.receive()\n"
        "            except Exception:\n"
        "                self._report = m.Committed(Report()).report\n"
        "                return\n"
        "            match message:\n                case m.Credit",
        f"-m slow {KILLED}::test_cut_after_any_message",
    ),
    Mutation(
        "a listing ends with all directories", "netsync/transfer/target.py",
        "if not unfolding.all_ended:", "if False:",
        f"{DELETES}::test_a_listing_that_does_not_end_well_deletes_nothing",
    ),
    Mutation(
        "what went lately counts", "netsync/plan/guards.py",
        "return max(0, limit.amount - changes.deleted)", "return limit.amount",
        f"{CHANGES}::test_a_limit_counts_what_went_lately",
    ),
    Mutation(
        "nobody tells unasked what is gone", "netsync/transfer/dooming.py",
        "if names and not self._options.changes:", "if False:",
        f"{CHANGES}::test_nobody_may_tell_what_is_gone_unasked",
    ),
    Mutation(
        "devices come only where they may", "netsync/plan/compare.py",
        "devices=options.keep.devices and privileged and special,",
        "devices=options.keep.devices and privileged,",
        f"{COMPARED}::test_devices_need_privilege_the_modules_leave_and_the_option",
    ),
    Mutation(
        "set-id bits come only where they may", "netsync/plan/compare.py",
        "mode_mask=_ALL_BITS if special else _ALL_BITS & ~_SET_ID,", "mode_mask=_ALL_BITS,",
        f"{COMPARED}::test_a_module_without_special_strips_set_id_bits_but_not_the_sticky_one",
    ),
    Mutation(
        "attributes that grant privileges come only where they may", "netsync/plan/xattrs.py",
        "[USER, TRUSTED, SECURITY] if privileged and special else [USER]",
        "[USER, TRUSTED, SECURITY] if privileged else [USER]",
        ATTRIBUTES,
    ),
    Mutation(
        "attributes are set through no link", "netsync/tree/xattrs.py",
        "os.setxattr(where, name, value, follow_symlinks=links)",
        "os.setxattr(where, name, value)",
        "tests/unit/tree/test_xattrs.py::test_a_link_has_its_own_and_is_not_followed",
    ),
    Mutation(
        "files are flushed before they have their names", "netsync/transfer/runs.py",
        "            flush(fds, many=changes)\n", "            pass\n",
        POWER,
    ),
    Mutation(
        "whole file systems are flushed where files are many", "netsync/transfer/runs.py",
        "flush_file_systems([*one_of.values(), *others])", "pass",
        POWER,
    ),
    Mutation(
        "directories are flushed too", "netsync/transfer/finishing.py",
        "                    self._make_durable()\n", "                    pass\n",
        POWER,
    ),
    Mutation(
        "a file is written out of sight", "netsync/tree/output.py",
        "        if inplace:\n            os.close(open_regular(directory, name))",
        "        if inplace or os.access(name, os.F_OK, dir_fd=directory):\n"
        "            os.close(open_regular(directory, name))",
        f"-m slow {KILLED}::test_killed_before_any_step",
    ),
    Mutation(
        "what dead sessions left is swept", "netsync/tree/stage.py",
        "    for name in names:\n", "    for name in ():\n",
        "tests/unit/tree/test_stage.py",
    ),
    Mutation(
        "a verification touches nothing", "netsync/transfer/effects.py",
        "    if destination.options.dry_run:\n", "    if False:\n",
        "tests/integration/test_verify.py::test_differences_are_told_and_nothing_is_changed",
    ),
    Mutation(
        "a disk that is full ends the run", "netsync/errors.py",
        "return error.errno in _FATAL_HINTS", "return False",
        "tests/fault/test_real_disks.py::test_inodes_run_out",
    ),
    Mutation(
        "an emptied source deletes nothing", "netsync/transfer/guarding.py",
        "if dooming.emptied is not None:", "if False:",
        f"{GUARDS}::test_an_empty_source_does_not_empty_the_target",
    ),
    Mutation(
        "another directory in the source's place deletes nothing", "netsync/transfer/guarding.py",
        "reasons = [self._other_source(), ", "reasons = [",
        f"{GUARDS}::test_another_directory_in_the_sources_place_is_held_until_accepted",
    ),
    Mutation(
        "the way to a place is walked through no link", "netsync/tree/directories.py",
        "os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC",
        "os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC",
        f"{MOVING}::test_m31_the_way_to_a_place_in_a_module_leads_nowhere_out",
    ),
    Mutation(
        "who has nothing to say pings", "netsync/net/channel.py",
        "                await self.send(Ping())\n", "                pass\n",
        f"{SILENCE}::test_an_idle_side_pings_each_third_of_the_timeout",
    ),
    # --- how much it may cost
    Mutation(
        "looking in vain has a bound", "netsync/delta/match.py",
        "elif self._wasted <= BUDGET * (self._base + hit - self._skipped) + ALLOWANCE * size:",
        "elif True:",
        MATCHED,
    ),
    Mutation(
        "a strong checksum confirms a block", "netsync/delta/match.py",
        "        for block in candidates:\n            if self._is(block, strong):\n",
        "        for block in candidates:\n            if True:\n",
        MATCHED,
    ),
    # --- what it may do to the host
    Mutation(
        "the server keeps few capabilities", "scripts/systemd/netsync.service",
        "CapabilityBoundingSet=CAP_CHOWN CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_FOWNER CAP_FSETID"
        " CAP_MKNOD CAP_SETFCAP CAP_SETGID CAP_SETUID\n",
        "",
        "tests/unit/scripts/test_systemd_unit.py::test_the_server_is_exposed_to_little",
    ),
    Mutation(
        "a helper takes what is whole and its own", "netsync/cli/resident.py",
        "if asked is None or asked.key.words != self._key.words or len(asked.files) != len(fds):",
        "if False:",
        "tests/integration/test_commit.py::test_nobody_else_and_no_other_version_is_served",
    ),
    Mutation(
        "a helper ends with its identity", "netsync/cli/resident.py",
        "return _state_of(self._key.identity) != self._files", "return False",
        "tests/integration/test_commit.py::test_a_helper_ends_when_its_identity_changes",
    ),
)  # fmt: skip
