"""Each protection: where it is, what it is without it, and the test that must fail then.

A test that passes whether or not the protection is there proves nothing. ``old`` must be in the
file exactly once, so a change of the code that moves a protection is noticed here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Mutation:
    """``old`` becomes ``new`` in ``file``; then ``tests`` must fail. ``pure``: with the twins."""

    name: str
    file: str
    old: str
    new: str
    tests: str
    pure: bool = False


LIES: Final = "tests/hostile/test_lying_peer.py"
CLIENT: Final = "tests/hostile/test_lying_client.py"
SERVER: Final = "tests/hostile/test_lying_server.py"
STRANGERS: Final = "tests/hostile/test_strangers.py"
MOVING: Final = "tests/hostile/test_moving_tree.py"
GUARDS: Final = "tests/integration/test_guards.py"
WATCH: Final = "tests/integration/test_watch.py"
RUNNER: Final = "tests/unit/modes/test_watch.py"
MOVES: Final = "tests/unit/transfer/test_relocating.py"
DELETES: Final = "tests/hostile/test_lying_about_deletes.py"
HUNG: Final = "tests/fault/test_hung_disk.py"
LED: Final = "tests/unit/tree/test_place.py::test_a_name_that_became_a_link_since_is_not_followed"

MUTATIONS: Final = (
    # --- paths
    Mutation(
        "a listed name is one component", "netsync/transfer/listed.py",
        "if not in_order or not are_components(names):", "if not in_order:",
        f"{SERVER}::test_a_listing_that_cannot_be_is_refused",
    ),
    Mutation(
        "netsync's own names are refused", "netsync/names.py",
        "return name.startswith(RESERVED_PREFIX) and name != IGNORE_FILE", "return False",
        f"{CLIENT}::test_m27_a_place_that_leads_out_is_refused",
    ),
    Mutation(
        "names come sorted, each once", "netsync/transfer/listed.py",
        "if not in_order or not are_components(names):", "if not are_components(names):",
        f"{SERVER}::test_a_listing_that_cannot_be_is_refused",
    ),
    Mutation(
        "a directory is opened through no link", "netsync/tree/directories.py",
        "os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC",
        "os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC",
        f"{MOVING}::test_m31_a_held_directory_is_the_one_that_was_opened",
    ),
    Mutation(
        "a target works through no link", "netsync/tree/directories.py",
        "os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC",
        "os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC",
        f"{MOVING}::test_m31_a_target_that_moves_leads_nowhere_out",
    ),
    Mutation(
        "a file is read through no link", "netsync/tree/read.py",
        "os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK", "os.O_RDONLY | os.O_NONBLOCK",
        f"{MOVING}::test_m31_a_source_that_moves_tells_nothing_from_outside", pure=True,
    ),
    Mutation(
        "a file is written in place through no link", "netsync/tree/output.py",
        "os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK", "os.O_RDWR | os.O_NONBLOCK",
        f"{MOVING}::test_m31_a_file_written_in_place_is_the_one_of_that_name",
    ),
    Mutation(
        "owners are set through no link", "netsync/tree/place.py",
        "os.chown(name, uid, gid, dir_fd=directory, follow_symlinks=False)",
        "os.chown(name, uid, gid, dir_fd=directory)",
        LED,
    ),
    Mutation(
        "times are set through no link", "netsync/tree/place.py",
        "os.utime(name, ns=times, dir_fd=directory, follow_symlinks=False)",
        "os.utime(name, ns=times, dir_fd=directory)",
        LED,
    ),
    Mutation(
        "modes are set through no link", "netsync/tree/place.py",
        "os.chmod(name, mode, dir_fd=directory, follow_symlinks=False)",
        "os.chmod(name, mode, dir_fd=directory)",
        LED,
    ),
    Mutation(
        "a place does not climb out of its module", "netsync/tree/roots.py",
        'raise RefusedError("the path leaves the module", op="open", where=path)',
        'os.close(stack[0]); stack[0] = os.open("..", OPEN_DIRECTORY, dir_fd=anchor.fd); continue',
        f"{CLIENT}::test_m27_a_place_that_leads_out_is_refused",
    ),
    Mutation(
        "a link in a place does not leave the module", "netsync/tree/roots.py",
        "    link = _link_text(stack[-1], name)\n", "    link = None\n",
        "tests/unit/tree/test_roots.py",
    ),
    Mutation(
        "a path with a NUL is an error, not a defect", "netsync/tree/roots.py",
        'if b"\\0" in path:', "if False:",
        f"{CLIENT}::test_m27_a_place_that_leads_out_is_refused",
    ),
    Mutation(
        "a place has so many components", "netsync/tree/roots.py",
        "if len(pending) > COMPONENTS_MAX:", "if False:",
        f"{CLIENT}::test_m27_a_place_that_leads_out_is_refused",
    ),
    # --- what was asked for
    Mutation(
        "only what was asked for is taken", "netsync/transfer/listed.py",
        "if asked is not None:", "if False:",
        f"{SERVER}::test_m28_what_was_not_asked_for_is_refused",
    ),
    Mutation(
        "only names of the list are taken", "netsync/plan/asked.py",
        "return next(named.named_below(path), None) is not None", "return True",
        f"{SERVER}::test_m28_with_a_list_of_names_only_these_come",
    ),
    Mutation(
        "the root's metadata only if asked for", "netsync/plan/asked.py",
        "if offered is not None and not allowed:", "if False:",
        f"{SERVER}::test_m28_metadata_of_a_directory_that_was_not_asked_for_is_refused",
    ),
    # --- order and numbers
    Mutation(
        "messages come in order", "netsync/wire/order.py",
        "        if following is None:", "        if following is None and False:",
        f"{CLIENT}::test_m11_a_message_that_may_not_come_now_ends_the_session",
    ),
    Mutation(
        "a frame's lengths are checked first", "netsync/wire/frames.py",
        "if body > limit.body or tail > limit.tail:", "if False:",
        f"{CLIENT}::test_m01_to_m12_a_broken_frame_ends_the_session",
    ),
    Mutation(
        "a frame's flags and zero are checked", "netsync/wire/frames.py",
        "if limit is None or zero or flags & ~COMPRESSED:", "if limit is None:",
        f"{CLIENT}::test_m01_to_m12_a_broken_frame_ends_the_session",
    ),
    Mutation(
        "a bomb's announced length is checked", "netsync/wire/codec.py",
        "if length > LIMITS[frame.type].tail:", "if False:",
        f"{CLIENT}::test_m12_a_decompression_bomb_costs_its_limit_and_no_more",
    ),
    Mutation(
        "a bomb's real length is checked", "netsync/wire/codec.py",
        "    if count != length:\n", "    if False:\n",
        f"{CLIENT}::test_m12_a_decompression_bomb_costs_its_limit_and_no_more",
    ),
    Mutation(
        "what cannot be decoded is the peer's fault", "netsync/wire/codec.py",
        "except (msgspec.MsgspecError, RecursionError, ValueError) as error:",
        "except ZeroDivisionError as error:",
        f"{CLIENT}::test_m01_to_m12_a_broken_frame_ends_the_session",
    ),
    Mutation(
        "only offered files are wanted", "netsync/transfer/offers.py",
        "            if entry.kind is Kind.FILE:\n", "            if True:\n",
        f"{LIES}::test_a_lie_of_the_target_ends_the_session",
    ),
    Mutation(
        "a file is wanted so often", "netsync/transfer/offers.py",
        "if attempts > ATTEMPTS_MAX:", "if False:",
        f"{LIES}::test_a_lie_of_the_target_ends_the_session",
    ),
    Mutation(
        "a copy stays in its basis", "netsync/delta/ops.py",
        "elif offset != HOLE and (offset < 0 or offset + length > basis_size):", "elif False:",
        f"{LIES}::test_a_lie_in_the_data_ends_the_session",
    ),
    Mutation(
        "literals are what came", "netsync/delta/ops.py",
        "if literal != tail_length:", "if False:",
        "tests/unit/delta/test_ops.py",
    ),
    Mutation(
        "no more is listed than allowed", "netsync/transfer/credit.py",
        "            if self._granted < 0:", "            if False:",
        f"{LIES}::test_a_lie_in_the_listing_ends_the_session",
    ),
    Mutation(
        "files fit their frame", "netsync/transfer/runs.py",
        "    if ends[-1] != len(tail):", "    if False:",
        f"{LIES}::test_a_lie_in_the_data_ends_the_session",
    ),
    # --- content
    Mutation(
        "a small file is verified", "netsync/transfer/runs.py",
        "xxh3_128_digest(tail[end - head.size : end]) == head.digest", "True",
        f"{CLIENT}::test_m42_m47_a_file_that_is_not_what_was_said_is_not_published",
    ),
    Mutation(
        "a large file is verified", "netsync/transfer/incoming.py",
        "if self.position != size:\n            return False", "if True:\n            return True",
        "tests/unit/transfer/test_transfer.py",
    ),
    Mutation(
        "attributes are checked", "netsync/plan/xattrs.py",
        'if name <= last or len(name) > NAME_MAX or b"\\0" in name or namespace_of(name) is None:',
        "if False:",
        f"{SERVER}::test_a_listing_that_cannot_be_is_refused",
    ),
    Mutation(
        "nothing is carried to where a file is put together already",
        "netsync/transfer/carrying.py",
        "if not data or start < self._reached or", "if not data or",
        "tests/property/test_carrying.py",
    ),
    Mutation(
        "what is carried counts at its own shift only", "netsync/transfer/carrying.py",
        "for part in parts if shift == self._shift else ():", "for part in parts:",
        "tests/unit/transfer/test_carrying.py",
    ),
    Mutation(
        "nothing that was carried stays behind the end", "netsync/transfer/assembling.py",
        "if self._cloned or self._carried.wrote:", "if self._cloned:",
        "tests/unit/transfer/test_carrying.py",
    ),
    Mutation(
        "a killed run's stage is shorter than the old version", "netsync/transfer/carrying.py",
        "min(size - _RESERVE, new_size)", "new_size",
        "tests/unit/transfer/test_carrying.py",
    ),
    Mutation(
        "a file that changed while it was read is read again", "netsync/transfer/outgoing.py",
        "    return status.st_size, status.st_mtime_ns, status.st_ctime_ns\n",
        "    return status.st_size, status.st_mtime_ns, 0\n",
        "tests/fault/test_changing_source.py",
    ),
    Mutation(
        "a flush that failed ends the run", "netsync/tree/durable.py",
        "            os.fsync(fd)\n        return\n",
        "            try:\n                os.fsync(fd)\n"
        "            except OSError:\n                pass\n        return\n",
        "tests/unit/tree/test_files.py",
    ),
    Mutation(
        "a copy that was cut is swept from the backup", "netsync/tree/backup.py",
        "            sweep(fd, names_in(fd)[1])\n", "",
        "tests/unit/tree/test_backup.py",
    ),
    Mutation(
        "a complete file loses its mark", "netsync/tree/large_files.py",
        "if self._marks and (session := self._marks.pop(MARK_PREFIX + key_of(path), None)):",
        "if (session := None):",
        "tests/unit/tree/test_half_written.py",
    ),
    Mutation(
        "what gives way is kept first", "netsync/transfer/publishing.py",
        "        self._backup.keep(fd, wanted.path)\n", "",
        "tests/fault/test_killed_anywhere.py::test_killed_before_some_steps",
    ),
    # --- deletion
    Mutation(
        "a tree that was not read whole deletes nothing", "netsync/transfer/finishing.py",
        "if (complete or self._options.verify) and not self._guards.held:",
        "if not self._guards.held:",
        "tests/fault/test_real_disks.py::"
        "test_a_source_file_that_cannot_be_read_is_told_and_nothing_is_deleted",
    ),
    Mutation(
        "a module's limit holds whatever the client says", "netsync/server/session.py",
        "guarding = Guarding(module.max_delete, ", "guarding = Guarding(None, ",
        "tests/integration/test_guards.py",
    ),
    Mutation(
        "deleting is a right of its own", "netsync/server/session.py",
        "module.require(self._identity, Right.DELETE)", "pass",
        "tests/integration/test_server.py::test_rights_belong_to_certificates",
    ),
    # --- who
    Mutation(
        "every client shows a certificate", "netsync/identity/contexts.py",
        "context.verify_mode = ssl.CERT_REQUIRED\n    context.verify_flags",
        "context.verify_mode = ssl.CERT_OPTIONAL\n    context.verify_flags",
        "tests/unit/net/test_dial.py",
    ),
    Mutation(
        "TLS 1.3 and nothing older", "netsync/identity/contexts.py",
        "context.minimum_version = ssl.TLSVersion.TLSv1_3",
        "context.minimum_version = ssl.TLSVersion.TLSv1_2",
        f"{STRANGERS}::test_m14_to_m22_a_stranger_is_turned_away",
    ),
    Mutation(
        "a server's certificate names its host", "netsync/identity/contexts.py",
        "context.check_hostname = True", "context.check_hostname = False",
        f"{STRANGERS}::test_a_server_that_is_not_who_it_should_be_is_refused",
    ),
    Mutation(
        "no tickets", "netsync/identity/contexts.py",
        "context.num_tickets = 0", "context.num_tickets = 2",
        f"{STRANGERS}::test_m22_no_session_is_resumed",
    ),
    Mutation(
        "exactly one name", "netsync/identity/peer.py",
        'name = name_in(value for kind, value in _pairs(alternatives) if kind == "URI")',
        'name = ([v for k, v in _pairs(alternatives) if k == "URI"] or [None])[0]',
        f"{STRANGERS}::test_m21_a_certificate_of_our_ca_with_no_clear_name_is_refused",
    ),
    Mutation(
        "a revoked certificate opens nothing", "netsync/identity/peer.py",
        "if serial in identity.revoked:", "if False:",
        f"{STRANGERS}::test_m18_a_revoked_certificate_opens_no_session_and_loses_its_own",
    ),
    Mutation(
        "a revoked certificate's session ends", "netsync/server/serve.py",
        '                log.warning("ending the session of %s: revoked", running.peer.name)\n'
        "                running.scope.cancel()\n", "                pass\n",
        f"{STRANGERS}::test_m18_a_revoked_certificate_opens_no_session_and_loses_its_own",
    ),
    Mutation(
        "a line that cannot be read is an error", "netsync/identity/revocation.py",
        "        if serial is None:\n            raise ConfigError(",
        "        if serial is None:\n            continue\n            raise ConfigError(",
        f"{STRANGERS}::test_m19_a_list_that_cannot_be_read_lets_nobody_back_in",
    ),
    Mutation(
        "a key that others can read is refused", "netsync/identity/files.py",
        "    if mode & forbidden:\n", "    if False:\n",
        f"{STRANGERS}::test_a_key_that_others_can_read_is_refused_by_both_ends",
    ),
    Mutation(
        "a refusal tells nothing of our directories", "netsync/server/serve.py",
        "await channel.fail(RefusedError(error.why))", "await channel.fail(error)",
        f"{STRANGERS}::test_m18_a_revoked_certificate_opens_no_session_and_loses_its_own",
    ),
    Mutation(
        "a module's user does its work", "netsync/server/worker.py",
        "    become(user)\n", "    pass\n",
        "tests/integration/test_module_user.py::test_what_the_user_may_not_touch_is_not_touched",
    ),
    Mutation(
        "a worker that is not the user alone does nothing", "netsync/server/worker.py",
        "    os.setresgid(user.gid, user.gid, user.gid)\n", "",
        "tests/integration/test_module_user.py::test_what_is_pushed_belongs_to_the_modules_user",
    ),
    Mutation(
        "others of its user cannot trace a worker", "netsync/server/worker.py",
        "(_DUMPABLE, 0)", "(_DUMPABLE, 1)",
        "tests/integration/test_module_user.py::test_nobody_else_of_the_user_gets_at_a_worker",
    ),
    # --- rot
    Mutation(
        "what has rotted is not sent", "netsync/transfer/inspecting.py",
        "return entry if self._options.verify else None", "return entry",
        "tests/integration/test_verify.py::test_what_rotted_at_the_source_is_not_sent",
    ),
    Mutation(
        "a part of a tree is only verified", "netsync/model.py",
        "if self.slice is not None and (self.delete or not self.verify):", "if False:",
        "tests/unit/plan/test_scrub.py::test_a_part_of_a_tree_is_only_verified",
    ),
    Mutation(
        "a file must rest before it is remembered", "netsync/state/verified.py",
        "if digest and now - status.st_ctime_ns / 1e9 >= REST_SECONDS:", "if digest:",
        "tests/unit/state/test_verified.py::test_a_file_that_has_not_rested_is_not_remembered",
    ),
    Mutation(
        "a connection that broke has not ended", "netsync/net/_plain_records.py",
        "return FAILED, error", "return ENDED, None",
        "tests/contract/test_records.py", pure=True,
    ),
    Mutation(
        "a small file that changes while it is read is read again", "netsync/tree/_plain.py",
        "if status.st_ctime_ns != before.st_ctime_ns:", "if False:",
        "tests/contract/test_native_runs.py", pure=True,
    ),
    # --- watches
    Mutation(
        "what was unmounted inside a source stays", "netsync/transfer/guarding.py",
        "self._unmounted(due), ", "",
        f"{GUARDS}::test_what_was_unmounted_inside_the_source_is_not_deleted",
    ),
    Mutation(
        "mounts are told only where they are known", "netsync/transfer/source.py",
        "if mounts is None or len(origins) + len(mounts) > ORIGINS_MAX:",
        "mounts = []\n        if False:",
        f"{GUARDS}::test_what_is_mounted_again_goes_on_and_its_files_may_be_deleted",
    ),
    Mutation(
        "a source of which nothing is left is told whole", "netsync/transfer/listing.py",
        "return self._options.changes and node.number == 0 and is_empty(fd)", "return False",
        f"{WATCH}::test_an_empty_source_deletes_nothing",
    ),
    Mutation(
        "what changes while it is sent is owed anew", "netsync/plan/dirty.py",
        "        for each in taken:\n            if any(",
        "        for each in taken:\n            self._waiting.pop(each.path, None)\n"
        "            if any(",
        "tests/unit/plan/test_dirty.py",
    ),
    Mutation(
        "nothing is claimed that is owed", "netsync/modes/owing.py",
        "claims += (each for each in (self.oldest, self.blind) if each is not None)", "pass",
        "tests/unit/modes/test_owing.py",
    ),
    Mutation(
        "what moved is owed as long as under its old name", "netsync/modes/owing.py",
        "for since in (owed, self.look_since, self._looking):", "for since in ():",
        f"{RUNNER}::test_a_barrier_holds_for_what_moves_while_it_is_sent",
    ),
    Mutation(
        "what came is owed as long as what went", "netsync/modes/watch.py",
        "                await self._date_back(directory, dirty.gone_since(seen.gone))\n", "",
        f"{RUNNER}::test_a_barrier_holds_for_what_got_another_name_while_it_was_sent",
    ),
    Mutation(
        "what came is owed as long as what a look missed", "netsync/modes/watch.py",
        "                    await self._date_back(directory, self._owing.looking_since)\n", "",
        f"{RUNNER}::test_a_barrier_holds_for_what_a_look_at_the_whole_missed",
    ),
    Mutation(
        "what is new is owed since it was made", "netsync/modes/renamed.py",
        "max(since, made)", "since",
        f"{RUNNER}::test_what_is_new_is_owed_since_it_was_made_whatever_went_before",
    ),
    Mutation(
        "a barrier is about where the path leads", "netsync/modes/watch.py",
        "await self._observing.confirm()", "await self._observing.drain()",
        f"{RUNNER}::test_a_barrier_is_about_the_directory_that_the_path_leads_to",
    ),
    Mutation(
        "an overflow is told as all", "netsync/tree/notify.py",
        "            self._overflowed = True\n            return\n", "            return\n",
        "tests/unit/tree/test_notify.py",
    ),
    Mutation(
        "a new directory is told with all in it", "netsync/tree/notify.py",
        "Changed(path, tree=True, before=before, came=before is None)",
        "Changed(path, before=before, came=before is None)",
        "tests/unit/tree/test_notify.py",
    ),
    Mutation(
        "silence shows", "netsync/plan/reception.py",
        "return silent if silent > reception.every + GRACE_SECONDS else 0.0", "return 0.0",
        "tests/unit/plan/test_reception.py",
    ),
    Mutation(
        "a beat that was long on its way proves nothing", "netsync/server/receiving.py",
        "sent = min(now, self.waiting_since + beat.rested)", "sent = now",
        "tests/unit/server/test_receiving.py",
    ),
    Mutation(
        "deletes of many transfers add up", "netsync/plan/reception.py",
        "deleted=deleted_lately(reception, now) + files.deleted,", "deleted=files.deleted,",
        "tests/unit/plan/test_reception.py",
    ),
    Mutation(
        "a watch that is configured no more says so", "netsync/modes/parting.py",
        "nursery.start_soon(leave, states, site, each, identities.get(each.name))", "pass",
        f"{WATCH}::test_a_watch_that_is_configured_no_more_parts_from_its_standby",
    ),
    Mutation(
        "a move is told with both its names", "netsync/modes/owing.py",
        "            and (move.new in trees or not trees.isdisjoint(parents_of(move.new)))\n", "",
        "tests/unit/modes/test_owing.py",
    ),
    Mutation(
        "a move replaces nothing", "netsync/tree/calls.py",
        "_NO_REPLACE: Final = 1", "_NO_REPLACE: Final = 0",
        f"{MOVES}::test_an_empty_directory_in_the_way_is_not_replaced_either",
    ),
    Mutation(
        "a move takes nothing out of the shelter of rules", "netsync/transfer/relocating.py",
        "if _has_rules(directories, above_old) or _has_rules(directories, above_new):", "if False:",
        f"{MOVES}::test_nothing_leaves_the_shelter_of_an_ignore_file",
    ),
    Mutation(
        "who may not delete moves nothing", "netsync/transfer/relocating.py",
        "runs = options.changes and options.delete and ", "runs = options.changes and ",
        f"{MOVES}::test_what_keeps_something_in_its_place_keeps_all",
    ),
    Mutation(
        "a move stays in the tree", "netsync/transfer/relocating.py",
        "is_inside(move.old) and is_inside(move.new) and ", "",
        f"{MOVES}::test_what_cannot_be_done_as_told_is_left",
    ),
    Mutation(
        "who asks for a scrub is heard", "netsync/modes/scrubbing.py",
        "        seconds = math.inf if pace is None",
        "        self._wake = trio.Event()\n        seconds = math.inf if pace is None",
        "tests/unit/modes/test_scrubbing.py",
    ),
    # --- how much, how long
    Mutation(
        "a module's work has threads of its own", "netsync/server/session.py",
        "with working_within(None if module is None else module.threads):",
        "with working_within(None):",
        HUNG,
    ),
    Mutation(
        "a job's work has threads of its own", "netsync/modes/supervisor.py",
        "working_within(threads()):", "working_within(None):",
        HUNG,
    ),
    Mutation(
        "a job's place is looked up in a thread", "netsync/modes/copy.py",
        "path = await in_thread(local_path, target)", "path = local_path(target)",
        HUNG,
    ),
    Mutation(
        "a module is opened in a thread", "netsync/server/modules.py",
        "fd = await in_thread(_open, module)", "fd = _open(module)",
        HUNG,
    ),
    Mutation(
        "the oldest stranger makes way", "netsync/server/admission.py",
        "if len(self._strangers) > strangers_max():", "if False:",
        f"{STRANGERS}::test_m24_a_storm_of_connections_costs_a_bounded_amount",
    ),
    Mutation(
        "without descriptors the oldest stranger makes way", "netsync/server/serve.py",
        "                self._admission.make_room()\n", "",
        "tests/hostile/test_exhaustion.py::test_m24_without_descriptors_strangers_make_way",
    ),
    Mutation(
        "strangers leave descriptors to sessions", "netsync/server/admission.py",
        "return min(STRANGERS_MAX, descriptors // STRANGERS_SHARE)", "return STRANGERS_MAX",
        "tests/hostile/test_exhaustion.py::test_m24_strangers_leave_descriptors_to_sessions",
    ),
    Mutation(
        "of many sessions a few move bulk data at a time", "netsync/net/turns.py",
        "        if self._left:\n            self._left -= 1", "        if True:\n            pass",
        "tests/unit/net/test_turns.py::test_many_sessions_move_a_few_at_a_time",
    ),
    Mutation(
        "whose turn it is has it", "netsync/net/turns.py",
        "self._left = TURNS - len(woken)", "self._left = TURNS",
        "tests/unit/net/test_turns.py::test_who_came_later_takes_no_turn_of_those_who_wait",
    ),
    Mutation(
        "one name has so many sessions", "netsync/server/admission.py",
        "if self._sessions[name] >= SESSIONS_MAX:", "if False:",
        f"{STRANGERS}::test_m60_one_name_holds_so_many_sessions_and_others_are_served",
    ),
    Mutation(
        "the time to greet is for all of it", "netsync/server/session.py",
        "with trio.move_on_after(GREETING_SECONDS) as scope:",
        "with trio.move_on_after(10**6) as scope:",
        f"{STRANGERS}::test_m03_a_client_that_greets_a_byte_a_second_has_ten_seconds",
    ),
    Mutation(
        "an answer without end is not collected", "netsync/modes/listing.py",
        "            show([*answer.modules, *answer.entries])\n",
        "            globals().setdefault('KEPT', []).append(answer)\n"
        "            show([*answer.modules, *answer.entries])\n",
        f"{SERVER}::test_m59_an_answer_without_end_costs_no_memory",
    ),
    # --- what is shown
    Mutation(
        "a peer's words are one line", "netsync/names.py",
        "    if not text.isprintable():\n        text =", "    if False:\n        text =",
        f"{CLIENT}::test_m56_the_log_holds_no_control_characters_of_a_peer",
    ),
    Mutation(
        "names are shown escaped", "netsync/names.py",
        'if text.isprintable() and "\\\\" not in text:', "if True:",
        f"{SERVER}::test_m56_a_browsed_name_is_shown_escaped",
    ),
)  # fmt: skip
