"""Descriptors are found in any bytes around them, and a set that is not whole is refused."""

from __future__ import annotations

import pytest
from google.protobuf.descriptor_pb2 import EDITION_2023, FileDescriptorProto, FileDescriptorSet
from hypothesis import given
from hypothesis import strategies as st

from tripylon.pb.framing import read_varint, split_files
from tripylon.pb.scan import NoDescriptorsError, descriptor_set


def file(name: str, *imports: str, messages: int = 1) -> FileDescriptorProto:
    made = FileDescriptorProto(name=name, package="envoy.t", dependency=imports, syntax="proto3")
    for number in range(messages):
        message = made.message_type.add(name=f"M{number}")
        message.field.add(name="f", number=1, type=9, label=1)
    made.options.java_package = "io.envoyproxy"
    return made


def embed(*files: FileDescriptorProto) -> bytes:
    return b"\x7fELF\0\0" + b"\0".join(made.SerializeToString() for made in files) + b"\0end"


def found(binary: bytes) -> list[FileDescriptorProto]:
    return list(FileDescriptorSet.FromString(descriptor_set(binary)).file)


def test_imports_come_first_and_files_of_others_are_left_out() -> None:
    one, two, other = file("envoy/a.proto", "xds/z.proto"), file("xds/z.proto"), file("other/x.proto")
    assert found(embed(one, other, two)) == [two, one]


def test_a_file_outside_the_roots_is_kept_when_it_is_imported() -> None:
    one, other = file("envoy/a.proto", "other/x.proto"), file("other/x.proto")
    assert found(embed(one, other)) == [other, one]


def test_the_order_in_the_binary_does_not_matter() -> None:
    files = [file("envoy/a.proto", "envoy/c.proto"), file("envoy/b.proto"), file("envoy/c.proto", "envoy/b.proto")]
    assert descriptor_set(embed(*files)) == descriptor_set(embed(*reversed(files)))


def test_the_longest_of_several_with_one_name_wins() -> None:
    short, long = file("envoy/a.proto"), file("envoy/a.proto", messages=3)
    assert found(embed(short, long, short)) == [long]


def test_a_descriptor_that_does_not_decode_is_passed_over() -> None:
    good = file("envoy/a.proto")
    broken = b"\n\x0denvoy/a.proto\x22\x04\xff\xff\xff\xff\0"
    assert found(broken + embed(good)) == [good]


def test_a_byte_that_looks_like_a_start_does_not_hide_the_true_one() -> None:
    name = "envoy/" + "a" * 91 + ".proto"  # its length byte, 103, is also the letter g
    good = file(name)
    assert found(b"\n" + good.SerializeToString() + b"\0") == [good]


def test_bytes_that_look_like_an_edition_are_not_taken_into_a_file_with_a_syntax() -> None:
    good = file("envoy/a.proto")
    assert found(good.SerializeToString() + b"p\x01x\x01") == [good]


def test_a_file_in_an_edition_is_read_to_its_end() -> None:
    good = file("envoy/a.proto")
    good.syntax, good.edition = "editions", EDITION_2023
    assert found(embed(good)) == [good]


def test_a_missing_import_is_named() -> None:
    with pytest.raises(NoDescriptorsError, match=r"xds/gone\.proto, which envoy/a\.proto imports, is missing"):
        descriptor_set(embed(file("envoy/a.proto", "xds/gone.proto")))


@pytest.mark.parametrize(
    "binary", [b"", b"\n", b"\x7fELF" * 100, embed(file("other/x.proto")), embed(file("xds/x.proto"))]
)
def test_what_is_no_envoy_is_refused(binary: bytes) -> None:
    with pytest.raises(NoDescriptorsError, match="no descriptors of Envoy's API"):
        descriptor_set(binary)


@given(before=st.binary(max_size=200), after=st.binary(max_size=200))
def test_any_bytes_may_stand_around(before: bytes, after: bytes) -> None:
    good = file("envoy/a.proto")
    assert found(before + good.SerializeToString() + after) == [good]


@pytest.mark.parametrize("cut", range(1, 60))
def test_a_truncated_copy_loses_to_the_whole(cut: int) -> None:
    good = file("envoy/a.proto")
    assert found(good.SerializeToString()[:cut] + b"\0" * 80 + embed(good)) == [good]


@given(st.lists(st.binary(max_size=300)))
def test_a_set_is_split_without_decoding(bodies: list[bytes]) -> None:
    files = [FileDescriptorProto(name="n", package=body.hex()) for body in bodies]
    split = list(split_files(FileDescriptorSet(file=files).SerializeToString()))
    assert [FileDescriptorProto.FromString(one) for one in split] == files


def test_an_endless_varint_is_refused() -> None:
    with pytest.raises(ValueError, match="too long"):
        read_varint(b"\xff" * 20, 0)
