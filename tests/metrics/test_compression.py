import gzip
import subprocess
import zlib

from hypothesis import given
from hypothesis import strategies as st

from exporter.metrics.encoding import deflated, gzip_end, gzip_start


def assembled(pieces: list[bytes], tail: bytes) -> bytes:
    plain = b"".join(pieces)
    end = gzip_end(tail, checksum=zlib.crc32(plain), length=len(plain))
    return gzip_start(deflated(piece) for piece in pieces) + end


@given(st.lists(st.binary(max_size=2000), max_size=8), st.binary(max_size=500))
def test_any_pieces_and_tail_are_one_gzip_member(pieces: list[bytes], tail: bytes) -> None:
    member = assembled(pieces, tail)
    decoder = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    assert decoder.decompress(member) == b"".join(pieces) + tail
    assert decoder.eof
    assert decoder.unused_data == b""
    assert gzip.decompress(member) == b"".join(pieces) + tail


def test_the_gzip_program_finds_no_fault(gzip_program: str) -> None:
    lines = [b'fal_spend_usd_total{account="a",model="m%d"} 1.5\n' % number for number in range(5000)]
    member = assembled([b"".join(lines[:3000]), b"", b"".join(lines[3000:])], b"# EOF\n")
    done = subprocess.run([gzip_program, "-t", "-v"], input=member, capture_output=True, check=False, timeout=30)
    assert done.returncode == 0, done.stderr
    unpacked = subprocess.run([gzip_program, "-dc"], input=member, capture_output=True, check=True, timeout=30).stdout
    assert unpacked == b"".join(lines) + b"# EOF\n"


def test_a_wrong_checksum_would_be_noticed() -> None:
    broken = gzip_start([deflated(b"one")]) + gzip_end(b"two", checksum=zlib.crc32(b"uno"), length=3)
    try:
        gzip.decompress(broken)
    except gzip.BadGzipFile as error:
        assert "CRC check failed" in str(error)  # noqa: PT017  the type and the text are both the point
    else:
        raise AssertionError("the decoder took a broken member")
