"""Some mutations in every run; `make fuzz` sends thousands."""

from serving import ServerProcess
from trust import fuzz


async def test_mutated_images_end_ok_or_with_a_reason(plain_server: ServerProcess) -> None:
    ends, wrong = await fuzz.send(plain_server.address, 1, range(160), until=0)
    assert wrong == []
    assert ends.total() == 160
    assert ends["IMAGE_UNREADABLE"] > 50
    assert ends["OK"] > 5
    assert "unforeseen" not in plain_server.log


def test_mutations_are_repeatable_and_reach_behind_the_checksums() -> None:
    assert [fuzz.mutation(7, n) for n in range(50)] == [fuzz.mutation(7, n) for n in range(50)]
    data = bytearray(fuzz.BASES[0])
    data[60] ^= 1
    fuzz.mend_checksums(data)
    assert data != fuzz.BASES[0]
    mended = bytearray(data)
    fuzz.mend_checksums(mended)
    assert mended == data
