"""One budget of memory: its shares, the limits that follow from it, and what contradicts it."""

from pathlib import Path

import pytest

from cxr_server.explanation.footprint import Drawing, max_drawn_px
from cxr_server.memory import MIN_BUDGET_MIB, MODEL_BYTES, PROCESS_BYTES, divide
from cxr_server.settings import MIB, SettingsError, parse

COMPOSE_MIB = 2048 * 9 // 10
"""What the server takes of the 2 GiB in docker-compose.yml."""


READ_TEXT = Path.read_text


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A machine of 128 GiB without a container: the files that say so, to be changed."""
    made = {"/proc/self/cgroup": "", "/proc/meminfo": f"MemTotal:  {2**27} kB\n"}

    def read_text(path: Path, *args: object, **kwargs: object) -> str:
        if str(path) in made:
            return made[str(path)]
        if str(path).startswith("/sys/fs/cgroup"):
            raise FileNotFoundError(path)
        return READ_TEXT(path, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "read_text", read_text)
    return made


def of(*flags: str, threads: int = 2) -> object:
    return divide(parse(flags, env={}), threads)


@pytest.mark.parametrize("budget_mib", [MIN_BUDGET_MIB, 1024, COMPOSE_MIB, 65_536])
@pytest.mark.parametrize("threads", [1, 2, 64])
def test_the_shares_add_up_to_no_more_than_the_budget(budget_mib: int, threads: int) -> None:
    memory = of("--memory-budget-mib", str(budget_mib), threads=threads)
    shares = (memory.requests_bytes, memory.decode_bytes, memory.drawing_bytes, PROCESS_BYTES)
    assert min(shares) > 0
    assert sum(shares) <= memory.budget_bytes == budget_mib * MIB
    assert memory.max_request_bytes <= memory.requests_bytes


def test_each_further_model_takes_its_share_and_so_does_one_that_replaces_another() -> None:
    one, two = of(), of("--model", "phantom", "--model", "b=phantom")
    swapped = of("--admin-listen", "127.0.0.1:50053")
    assert two.process_bytes == swapped.process_bytes == one.process_bytes + MODEL_BYTES
    assert two.drawing_bytes < one.drawing_bytes


def test_a_large_budget_gives_the_usual_limits_and_a_small_one_less() -> None:
    large, small = of("--memory-budget-mib", "16384"), of("--memory-budget-mib", "768")
    assert (large.max_request_bytes, large.requests_bytes) == (32 * MIB, 256 * MIB)
    assert large.max_pixel_count == 50_000_000
    assert small.requests_bytes < large.requests_bytes
    assert small.max_pixel_count < large.max_pixel_count


def test_in_two_gib_all_findings_can_be_drawn_at_1024_pixels_and_six_at_4096() -> None:
    memory = of("--memory-budget-mib", str(COMPOSE_MIB))
    most_px = max_drawn_px(memory.drawing_bytes, memory.max_pixel_count)
    for pictures, side_px in ((18, 1024), (6, 4096)):
        drawing = Drawing(pictures, side_px, side_px, kept_px=4096**2)
        assert drawing.drawn_px <= most_px
        assert drawing.peak_bytes <= memory.drawing_bytes
    assert most_px < 18 * 4096**2


def test_without_a_flag_the_machine_or_its_container_decides() -> None:
    assert of().budget_bytes >= MIN_BUDGET_MIB * MIB


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--memory-budget-mib", "100"), ("--memory-budget-mib", "100", str(MIN_BUDGET_MIB))),
        (
            ("--memory-budget-mib", "200000"),
            ("--memory-budget-mib 200000", "above the 131072 MiB", "machine"),
        ),
        (
            ("--memory-budget-mib", "1024", "--cache-entries", "100000"),
            ("--cache-entries 100000", "--memory-budget-mib 1024", "192 MiB", "3355 entries"),
        ),
        (
            ("--memory-budget-mib", "800", "--model", "a", "--model", "b"),
            ("--model a --model b", "2 models take 608 MiB", "--memory-budget-mib 800"),
        ),
        (
            ("--max-request-mib", "64", "--max-in-flight-mib", "32"),
            ("--max-request-mib 64", "--max-in-flight-mib 32"),
        ),
        (
            ("--memory-budget-mib", "1024", "--max-request-mib", "500"),
            ("--max-request-mib 500", "--memory-budget-mib 1024", "192 MiB"),
        ),
        (
            ("--memory-budget-mib", "1024", "--max-in-flight-mib", "900"),
            ("--max-in-flight-mib 900", "--memory-budget-mib 1024"),
        ),
        (
            ("--memory-budget-mib", "1024", "--max-pixels", "100000000"),
            ("--max-pixels 100000000", "--memory-budget-mib 1024"),
        ),
    ],
)
def test_settings_that_contradict_the_budget_name_flags_and_values(
    flags: tuple[str, ...], words: tuple[str, ...]
) -> None:
    with pytest.raises(SettingsError) as refusal:
        of(*flags)
    for word in words:
        assert word in str(refusal.value)


@pytest.mark.parametrize(
    ("cgroup", "files", "limit_mib"),
    [
        ("0::/pod\n", {"unified": "2147483648"}, 2048),
        ("4:memory:/pod\n", {"legacy": "1073741824"}, 1024),
        ("0::/pod\n", {"unified": "max"}, None),
    ],
)
def test_the_limit_of_a_cgroup_is_found(
    cgroup: str,
    files: dict[str, str],
    limit_mib: int | None,
    machine: dict[str, str],
) -> None:
    paths = {
        "unified": "/sys/fs/cgroup/pod/memory.max",
        "legacy": "/sys/fs/cgroup/memory/pod/memory.limit_in_bytes",
    }
    machine |= {paths[name]: text for name, text in files.items()}
    machine |= {"/proc/self/cgroup": cgroup, "/proc/meminfo": "MemTotal:  16777216 kB\n"}
    expected = limit_mib * MIB * 9 // 10 if limit_mib else 16_384 * MIB // 2
    assert abs(of().budget_bytes - expected) <= 1
    if limit_mib:
        with pytest.raises(SettingsError, match=f"above the {limit_mib} MiB that this container"):
            of("--memory-budget-mib", str(limit_mib + 1))
