"""The conformance suite itself: each wrong queue fails the test that names its fault, the right one passes it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from syncd.errors import SyncdError
from syncd.mq.embedded import EmbeddedQueue, Options
from syncd.spi import Context
from syncd.testing.contracts.queue import QueueContract
from syncd.testing.contracts.queue_kit import Factory, opened
from tests.contract import queue_mutants as wrong

CAUGHT_BY = [
    (wrong.DropsTheLast, "test_the_last_message_is_there"),
    (wrong.CommitsOffsetWithoutState, "test_commit_stores_offset_state_and_hops_together"),
    (wrong.ForgetsHops, "test_commit_stores_offset_state_and_hops_together"),
    (wrong.PublishesWithoutState, "test_publish_stores_the_state_with_the_messages"),
    (wrong.IgnoresTheFenceAtPublish, "test_a_fenced_publish_stores_nothing"),
    (wrong.IgnoresTheFenceAtCommit, "test_a_fenced_commit_stores_nothing"),
    (wrong.IgnoresTheFenceAtPut, "test_a_fenced_put_stores_nothing"),
    (wrong.FencesAfterStoring, "test_a_fenced_publish_stores_nothing"),
    (wrong.SwapsOrder, "test_order_in_a_lane_is_the_order_of_publishing"),
    (wrong.ReturnsDuplicates, "test_poll_gives_each_message_once"),
    (wrong.DropsDuplicates, "test_a_duplicate_is_stored_twice"),
    (wrong.PublishesInTwoSteps, "test_a_publish_that_fails_stores_nothing"),
    (wrong.SharesOffsetsBetweenGroups, "test_groups_have_their_own_offsets"),
    (wrong.TrimsToTheFastest, "test_retention_keeps_what_a_group_has_not_finished"),
    (wrong.TellsOfWhatIsGone, "test_what_is_still_there_is_told_and_an_offset_may_step_back_to_it"),
    (wrong.CountsTheFinished, "test_what_each_group_has_not_finished_is_told"),
    (wrong.FullForCommitsToo, "test_a_full_queue_refuses_publish_and_nothing_else"),
    (wrong.IgnoresTags, "test_a_group_sees_the_lanes_of_its_tags"),
    (wrong.ResetsOffsetsAtSubscribe, "test_subscribing_again_keeps_the_offsets"),
    (wrong.LeavesUnsubscribed, "test_unsubscribe_ends_the_group_and_no_other"),
    (wrong.TakesLiveLeases, "test_a_live_lease_has_one_owner"),
    (wrong.ScansByPattern, "test_scan_takes_the_prefix_as_it_is"),
    (wrong.WaitsForTheLastLook, "test_nothing_is_missed_between_the_polls_of_two_lanes"),
]


def make(
    plugin: Callable[[Options, Context], EmbeddedQueue], path: Path, max_bytes: int | None = None
) -> EmbeddedQueue:
    limits = {} if max_bytes is None else {"max_bytes": max_bytes, "keep_bytes": 0}
    return plugin(Options.model_validate({"segment_bytes": 1 << 20, **limits}), Context("job", path))


def run(name: str, factory: Factory) -> None:
    test = getattr(QueueContract(), name)
    wants = inspect.signature(test).parameters
    with opened(factory) as queue:
        test(**{key: value for key, value in {"factory": factory, "queue": queue}.items() if key in wants})


@pytest.mark.parametrize(("mutant", "name"), CAUGHT_BY, ids=[mutant.__name__ for mutant, _ in CAUGHT_BY])
def test_a_wrong_queue_fails_the_test_that_names_its_fault(
    mutant: type[EmbeddedQueue], name: str, tmp_path: Path
) -> None:
    (tmp_path / "right").mkdir()
    (tmp_path / "wrong").mkdir()
    run(name, partial(make, EmbeddedQueue, tmp_path / "right"))
    with pytest.raises((AssertionError, SyncdError, pytest.fail.Exception)):
        run(name, partial(make, mutant, tmp_path / "wrong"))
