"""``[job.NAME]``: what it means, and what is said where it cannot mean anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from netsync.config.file import Config, load_config
from netsync.config.jobs import OPTIONS
from netsync.errors import ConfigError
from netsync.model import DeleteLimit, Rule
from netsync.modes.job import Mode
from netsync.plan.schedule import OnMissed

BASE = 'mode = "pull"\nsource = "primary1::web/"\ntarget = "/srv/web"\n'


def load(tmp_path: Path, text: str) -> Config:
    file = tmp_path / "my.toml"
    file.write_text(text)
    return load_config(file)


def job(tmp_path: Path, *lines: str, base: str = BASE) -> Config:
    return load(tmp_path, "[job.web]\n" + base + "\n".join(lines) + "\n")


def test_the_contracts_example_is_understood(tmp_path: Path) -> None:
    config = job(
        tmp_path, 'schedule = "*/15 * * * *"', 'rpo = "30m"', "delete = true", "retries = 5",
        'pre = ["/usr/local/bin/quiesce", "web"]', 'on_missed = "skip"', 'jitter = "30s"',
        'ping = "https://monitor.example/x"', 'exclude = ["*.tmp", "/cache"]', 'include = "x"',
    )  # fmt: skip
    found = config.jobs["web"]
    assert found.mode is Mode.PULL
    assert (found.source, found.target) == ("primary1::web/", "/srv/web")
    assert found.rpo == 1800
    assert found.retries == 5
    assert found.options.delete
    assert found.options.rules == (Rule(True, b"*.tmp"), Rule(True, b"/cache"), Rule(False, b"x"))
    assert found.hooks.pre == ("/usr/local/bin/quiesce", "web")
    assert found.schedule is not None
    assert found.schedule.cron == "*/15 * * * *"
    assert found.schedule.on_missed is OnMissed.SKIP
    assert 0 <= found.schedule.delay < 30
    assert not config.listens, "there is no module to listen for"


def test_equal_sections_are_equal_jobs(tmp_path: Path) -> None:
    """So that a reload leaves them alone."""
    lines = ('every = "15m"', 'exclude = ["a"]', 'chmod = "Fgo-w"', 'max_delete = "3%"')
    assert job(tmp_path, *lines).jobs == job(tmp_path, *lines).jobs
    assert job(tmp_path, *lines).jobs != job(tmp_path, *lines, "delete = true").jobs


def test_options_mean_what_the_command_line_means(tmp_path: Path) -> None:
    options = job(
        tmp_path, 'max_delete = "30%"', 'bwlimit = "2M"', "no_perms = true", "no_owner = false",
        "compress = 3", 'modify_window = "2s"', "checksum = true", "archive = true",
    ).jobs["web"].options  # fmt: skip
    assert options.max_delete == DeleteLimit(30, percent=True)
    assert options.rate == 2 << 20
    assert not options.keep.perms
    assert options.keep.owner
    assert options.compress == 3
    assert options.modify_window == 2_000_000_000
    assert options.checksum


def test_every_long_option_of_push_and_pull_is_a_key_or_is_about_printing() -> None:
    for key in ("delete", "exclude_from", "files_from", "store_metadata", "inplace", "identity"):
        assert key in OPTIONS
    assert not {"dry_run", "progress", "json", "rule"} & set(OPTIONS)


def test_on_change_needs_no_schedule(tmp_path: Path) -> None:
    found = job(tmp_path, "on_change = true").jobs["web"]
    assert found.on_change
    assert found.schedule is None


WRONG = {
    "an unknown key": ("delet = true", "job.web.delet", "did you mean 'delete'"),
    "a word of the job": ("scheduel = 'x'", "job.web.scheduel", "did you mean 'schedule'"),
    "a flag's type": ("delete = 3", "job.web.delete", "true or false"),
    "a value's type": ("bwlimit = true", "job.web.bwlimit", "a string in quotes or a number"),
    "a list's type": ("exclude = [1, {}]", "job.web.exclude", "a list of strings"),
    "a value": ("retries = -1", "job.web.retries", "-1"),
    "a size": ("max_size = 'big'", "job.web.max_size", "is not a size"),
    "a compression": ("compress = 'zip'", "job.web", "--compress zip"),
    "a schedule": ("schedule = '61 * * * *'", "job.web.schedule", "minute"),
    "two schedules": ("schedule = '* * * * *'\nevery = '1h'", "job.web.every", "remove one"),
    "a span": ("every = 'often'", "job.web.every", "15m"),
    "no time at all": ("rpo = '0s'", "job.web.rpo", "more than 0"),
    "jitter alone": ("jitter = '9s'", "job.web.jitter", "schedule"),
    "too much jitter": ("every = '5s'\njitter = '9s'", "job.web.jitter", "shorter"),
    "what is missed": ("on_missed = 'later'", "job.web.on_missed", "'run-once' or 'skip'"),
    "a shell line": ("pre = 'sync; sync'", "job.web.pre", "list"),
    "no program": ("post = ['']", "job.web.post", "names no program"),
    "a ping": ("ping = 'monitor.example'", "job.web.ping", "https://HOST/PATH"),
    "an option for terminals": ("verbose = true", "job.web.verbose", "remove"),
    "a dry run": ("dry_run = true", "job.web.dry_run", "remove"),
    "stdin": ("files_from = '-'", "job.web.files_from", "stdin"),
    "contradiction": ("chown = 'a:b'\nusermap = 'x:y'", "job.web", "contradict"),
    "a share": ("scrub = '5%'", "job.web.scrub", "5%/day"),
    "too slow a scrub": ("scrub = '0.1%/day'", "job.web.scrub", "200 days"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_names_the_key_and_the_fix(tmp_path: Path, what: str) -> None:
    lines, *words = WRONG[what]
    with pytest.raises(ConfigError) as caught:
        job(tmp_path, lines)
    message = str(caught.value)
    assert "\n" not in message
    for word in (str(tmp_path / "my.toml"), *words):
        assert word in message


WATCH = 'mode = "watch"\nsource = "/srv/web"\ntarget = "p::m/"'


def test_a_watch_compares_the_whole_once_a_day_unless_it_is_told_when(tmp_path: Path) -> None:
    daily = job(tmp_path, base=WATCH).jobs["web"].schedule
    assert daily is not None
    assert daily.every == 86400
    hourly = job(tmp_path, 'every = "1h"', base=WATCH + "\n").jobs["web"].schedule
    assert hourly is not None
    assert hourly.every == 3600


WRONG_BASES = {
    "no mode": ('source = "p::m"\ntarget = "/x"', "'mode' is missing"),
    "another mode": ('mode = "pul"\nsource = "p::m"\ntarget = "/x"', "'pull' or 'push'"),
    "a watch of another host": ('mode = "watch"\nsource = "p::m"\ntarget = "/x"', "is remote"),
    "a watch of two": ('mode = "watch"\nsource = ["/x", "/y"]\ntarget = "p::m"', "one source"),
    "a watch into itself": ('mode = "watch"\nsource = "/x"\ntarget = "/x/y"', "contains"),
    "a watch of what links lead to": (
        'mode = "watch"\nsource = "/x"\ntarget = "p::m"\ncopy_links = true', "behind links"),
    "a relative target": ('mode = "pull"\nsource = "p::m"\ntarget = "x"', "job.web.target"),
    "a relative source": ('mode = "push"\nsource = "x"\ntarget = "p::m"', "job.web.source"),
    "the wrong way": ('mode = "push"\nsource = "p::m"\ntarget = "/x"', "pull fetches"),
    "no source": ('mode = "pull"\nsource = []\ntarget = "/x"', "is empty"),
    "changes of a push": (
        'mode = "push"\nsource = "/x"\ntarget = "p::m"\non_change = true', "job.web.on_change"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG_BASES)
def test_what_cannot_be_a_job_is_said(tmp_path: Path, what: str) -> None:
    base, words = WRONG_BASES[what]
    with pytest.raises(ConfigError) as caught:
        job(tmp_path, base=base)
    assert words in str(caught.value)


def test_a_jobs_name_is_one_that_a_file_can_have(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no job can have this name"):
        load(tmp_path, f'[job."../x"]\n{BASE}')


def test_metrics_need_a_port(tmp_path: Path) -> None:
    assert load(tmp_path, '[server]\nmetrics = "127.0.0.1:9873"\n').metrics == "127.0.0.1:9873"
    with pytest.raises(ConfigError, match=r"server\.metrics"):
        load(tmp_path, '[server]\nmetrics = "127.0.0.1"\n')


def test_the_environments_identity_is_not_the_jobs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else it would win over the file and the daemon's own options."""
    monkeypatch.setenv("NETSYNC_IDENTITY", "/from/environment")
    assert job(tmp_path).jobs["web"].identity is None
    assert job(tmp_path, 'identity = "/own"').jobs["web"].identity == Path("/own")
