"""The protections of mirrors and commits: rows like those of ``table``."""

from __future__ import annotations

from typing import Final

from mutation.table import Mutation

LOG: Final = "tests/unit/oplog/test_log.py"
REPLICA: Final = "tests/unit/oplog/test_replica.py"
JOURNAL: Final = "tests/unit/state/test_operation_journal.py"
REFUSALS: Final = "tests/unit/server/test_mirroring.py::test_who_may_not_learns_why_and_what_to_do"
LIES: Final = f"{REPLICA}::test_a_primary_that_lies_is_refused_and_changes_nothing"
LEVELS: Final = f"{REPLICA}::test_operations_are_written_and_flushed_when_asked"
BELIEVED: Final = f"{LOG}::test_a_standby_that_lies_is_believed_nothing"
WITHOUT_POWER: Final = "tests/fault/test_replica_power.py"
COMMITS: Final = "tests/hostile/test_lying_about_commits.py"
COMMITS_WITHOUT_POWER: Final = (
    "-m slow tests/fault/test_commit_killed.py::test_what_was_acknowledged_survives_a_power_cut"
)
FLOODS: Final = "test_many_small_operations_at_once_are_bounded"

MUTATIONS: Final = (
    # --- what a standby acknowledges
    Mutation(
        "a standby tells nothing durable before its flush", "netsync/oplog/journaling.py",
        "                    self.written = taken.target\n                self._tell()\n",
        "                    self.written = self.durable = taken.target\n"
        "                self._tell()\n",
        LEVELS,
    ),
    Mutation(
        "a standby's journal is flushed", "netsync/oplog/journaling.py",
        "            self._journal.sync()\n", "",
        WITHOUT_POWER,
    ),
    Mutation(
        "nothing is applied before the journal is durable", "netsync/oplog/journaling.py",
        "                    self.written = taken.target\n                self._tell()\n",
        "                    self.written = taken.target\n"
        "                    self.usable = self._journal.position\n"
        "                self.flushed.unpark_all()\n                self._tell()\n",
        f"{REPLICA}::test_nothing_is_applied_before_it_is_durable",
    ),
    Mutation(
        "the tree is flushed before it is told how far it is", "netsync/oplog/applying.py",
        "            sync_file_system(self._root)\n", "            pass\n",
        WITHOUT_POWER,
    ),
    Mutation(
        "what the journal holds is done after a crash", "netsync/oplog/applying.py",
        "        while not self.step(stop):\n            pass\n", "",
        f"{REPLICA}::test_after_a_kill_it_has_what_it_promised",
    ),
    Mutation(
        "a segment that a power cut left short is not whole", "netsync/state/operation_journal.py",
        "not self._continues(number, end.position)", "False",
        f"{JOURNAL}::test_a_segment_that_lost_its_end_ends_it_though_the_next_is_whole",
    ),
    Mutation(
        "what lies before a cut is flushed", "netsync/state/operation_journal.py",
        "                os.fdatasync(fd)\n            self._close",
        "                pass\n            self._close",
        f"{JOURNAL}::test_what_lies_before_a_cut_is_flushed_though_segments_began_since",
    ),
    Mutation(
        "what users wrote is no record of a journal", "netsync/state/journal_record.py",
        "    if (magic, salt) != (_MAGIC, _salt(key)):", "    if magic != _MAGIC:",
        f"{JOURNAL}::test_what_a_user_wrote_is_looked_through_quickly",
    ),
    Mutation(
        "a flush that failed ends the copy", "netsync/oplog/replica.py",
        "            self.failure = error\n            self._scope.cancel()\n", "",
        f"{REPLICA}::test_a_flush_that_failed_is_not_tried_again",
    ),
    # --- what a primary waits for
    Mutation(
        "an acknowledgement waits for its level", "netsync/oplog/log.py",
        "all(each.has(seq, level) for each", "all(each.has(seq, Level.RECEIVED) for each",
        f"{LOG}::test_waiting_is_for_all_standbys_at_the_level",
    ),
    Mutation(
        "an acknowledgement waits for all standbys", "netsync/oplog/log.py",
        "return all(each.has(seq, level)", "return any(each.has(seq, level)",
        f"{LOG}::test_waiting_is_for_all_standbys_at_the_level",
    ),
    Mutation(
        "that a standby is stale is on record first", "netsync/oplog/log.py",
        "        await self._note_stale(follower.name, follower.durable)\n"
        "        if follower.state is State.LOST:\n            self.owe(follower)\n",
        "        self.owe(follower)\n"
        "        await self._note_stale(follower.name, follower.durable)\n",
        f"{LOG}::test_degrade_is_on_record_before_anybody_goes_on",
    ),
    Mutation(
        "a standby is believed only what was sent", "netsync/oplog/follower.py",
        "if not self.sent >= acked.received >= acked.written >= acked.durable >= acked.applied:",
        "if False:",
        BELIEVED,
    ),
    Mutation(
        "a standby that claims more is no source", "netsync/mirror/links.py",
        "        if mine != have.chain or have.seq < self._follower.durable:", "        if False:",
        "tests/hostile/test_lying_standby.py",
    ),
    Mutation(
        "a standby has no less than before", "netsync/oplog/follower.py",
        "if any(new < old for new, old in zip(told, before, strict=True)):", "if False:",
        BELIEVED,
    ),
    # --- who may write, and what
    Mutation(
        "an older epoch is refused", "netsync/server/mirroring.py",
        "    if request.epoch < record.epoch:", "    if False:",
        REFUSALS,
    ),
    Mutation(
        "what was promoted is not written to by its old primary", "netsync/server/mirroring.py",
        "    if record.role == PRIMARY and request.epoch <= record.epoch:", "    if False:",
        REFUSALS,
    ),
    Mutation(
        "one certificate writes to a place", "netsync/server/mirroring.py",
        "    if identity != record.identity:", "    if False:",
        REFUSALS,
    ),
    Mutation(
        "a copy follows one log", "netsync/server/mirroring.py",
        "    if last and last not in (request.generation, *request.parents):", "    if False:",
        REFUSALS,
    ),
    Mutation(
        "a promoted copy takes nothing more", "netsync/oplog/replica.py",
        "        if self._refusal is not None:\n            raise self._refusal\n        count,",
        "        count,",
        f"{REPLICA}::test_promoted_it_takes_nothing_more",
    ),
    Mutation("no operation is missing", "netsync/oplog/replica.py",
             "if batch.first > count + 1:", "if False:", LIES),
    Mutation("the logs are one", "netsync/oplog/replica.py",
             "if chain != batch.chain:", "if False:", LIES),
    Mutation(
        "as many operations as were told", "netsync/oplog/replica.py",
        "if number != batch.first + batch.count - 1:", "if False:",
        LIES,
    ),
    Mutation("no operation leads out", "netsync/wire/operations.py",
             "if not is_confined(operation):", "if False:", LIES),
    Mutation(
        "no more operations wait than there is room", "netsync/oplog/replica.py",
        "            self._journaling.pending_bytes > PENDING_BYTES or self.unapplied_bytes > "
        "UNAPPLIED_BYTES\n",
        "            False\n",
        f"tests/hostile/test_lying_primary.py {REPLICA}::{FLOODS}",
    ),
    # --- the mount
    Mutation(
        "netsync's own names are not to be had on a mount", "netsync/mirror/naming.py",
        "        if is_reserved(name):\n            raise failed(errno.EPERM)\n", "",
        "tests/integration/test_mount_order.py"
        "::test_netsyncs_own_names_and_attributes_are_not_to_be_had",
    ),
    Mutation(
        "an ACL set from outside a group takes its bit", "netsync/mirror/attributes.py",
        "            if mode & stat.S_ISGID:\n", "            if False:\n",
        "tests/contract/test_mount.py"
        "::test_setting_an_acl_takes_the_group_bit_from_who_is_not_in_it",
    ),
    Mutation(
        "a mount hides nothing", "netsync/mirror/mounting.py",
        "    if names:\n", "    if False:\n",
        "tests/integration/test_mirror_mount.py"
        "::test_a_mount_that_would_hide_or_show_itself_is_refused",
    ),
    Mutation(
        "what is owed to a standby is not taken for sent", "netsync/oplog/streaming.py",
        "        if self._follower.is_degraded:\n", "        if False:\n",
        "tests/unit/oplog/test_log.py"
        "::test_a_session_whose_standby_is_given_up_meanwhile_ends",
    ),
    # --- commits
    Mutation(
        "a commit's content is what its digest says", "netsync/transfer/commit_target.py",
        "if file.ended and not file.is_whole(message.digest):", "if False:",
        f"{COMMITS}::test_content_that_is_not_what_was_said_gets_no_name",
    ),
    Mutation(
        "a commit's content is flushed before it has its name",
        "netsync/transfer/commit_target.py",
        "            flush([file.staged.fd for file in pending if file.staged is not None])\n",
        "            pass\n",
        COMMITS_WITHOUT_POWER,
    ),
)  # fmt: skip
