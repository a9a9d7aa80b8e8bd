"""What the Secret of the xDS certificate holds over the years."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.verification import PolicyBuilder, Store

from tripylon.kube.authority import AUTHORITY_LIFE, LEAF_LIFE, OVERLAP, SKEW, Kept, advanced

NAMES = ("tripylon.tripylon-system.svc", "tripylon.tripylon-system.svc.cluster.local")
START = datetime(2030, 1, 1, tzinfo=UTC)


def authorities(kept: Kept) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(kept.bundle)


def leaf(kept: Kept) -> x509.Certificate:
    return x509.load_pem_x509_certificate(kept.chain)


def trusted(kept: Kept, by: Kept, now: datetime) -> bool:
    """Whether a proxy with the bundle of `by` takes the certificate of `kept`."""
    store = Store(authorities(by))
    verifier = PolicyBuilder().store(store).time(now).build_server_verifier(x509.DNSName(NAMES[0]))
    try:
        verifier.verify(leaf(kept), [])
    except x509.verification.VerificationError:
        return False
    return True


def test_at_first_everything_is_made() -> None:
    kept = advanced(Kept(), NAMES, START)
    assert trusted(kept, kept, START)
    assert trusted(kept, kept, START - SKEW / 2), "a clock may be behind"
    names = leaf(kept).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert tuple(names.get_values_for_type(x509.DNSName)) == NAMES
    assert load_pem_private_key(kept.key, None).public_key() == leaf(kept).public_key()
    assert leaf(kept).not_valid_after_utc == START + LEAF_LIFE
    (authority,) = authorities(kept)
    assert authority.not_valid_after_utc == START + AUTHORITY_LIFE
    assert not kept.successor_key


def test_nothing_changes_while_nothing_is_due() -> None:
    kept = advanced(Kept(), NAMES, START)
    assert advanced(kept, NAMES, START) == kept
    assert advanced(kept, NAMES, START + LEAF_LIFE / 2) == kept
    assert advanced(kept, NAMES[:1], START) == kept, "fewer names are no reason"


def test_the_certificate_is_renewed_by_the_same_authority() -> None:
    kept = advanced(Kept(), NAMES, START)
    later = START + LEAF_LIFE * 0.67
    renewed = advanced(kept, NAMES, later)
    assert renewed.chain != kept.chain
    assert (renewed.bundle, renewed.signer_key) == (kept.bundle, kept.signer_key)
    assert trusted(renewed, kept, later)


def test_another_name_needs_another_certificate() -> None:
    kept = advanced(Kept(), NAMES[1:], START)
    renewed = advanced(kept, NAMES, START)
    assert renewed.bundle == kept.bundle
    assert trusted(renewed, kept, START)


def test_an_authority_is_announced_before_it_signs() -> None:
    """Year by year, day by day: what is served is trusted by whoever read the bundle a day ago."""
    now, kept = START, advanced(Kept(), NAMES, START)
    read = kept
    counts: set[int] = set()
    signers: set[bytes] = set()
    end = START + AUTHORITY_LIFE * 1.4
    while now < end:
        now += timedelta(days=1)
        before, kept = kept, advanced(kept, NAMES, now)
        assert trusted(kept, read, now), now
        assert trusted(kept, before, now), now
        read = kept
        counts.add(len(authorities(kept)))
        signers.add(kept.signer_key)
    assert counts == {1, 2}, "the old one stays until it expires"
    assert len(signers) == 3


def test_a_successor_waits_for_its_day() -> None:
    kept = advanced(Kept(), NAMES, START)
    due = START + AUTHORITY_LIFE * 0.67
    announced = advanced(kept, NAMES, due)
    assert announced.signer_key == kept.signer_key
    assert announced.successor_key
    assert len(authorities(announced)) == 2
    soon = advanced(announced, NAMES, due + OVERLAP / 2)
    assert soon == announced
    signing = advanced(announced, NAMES, due + OVERLAP)
    assert signing.signer_key == announced.successor_key
    assert not signing.successor_key
    assert trusted(signing, announced, due + OVERLAP)
    assert advanced(signing, NAMES, due + OVERLAP) == signing


def test_what_is_broken_is_replaced_and_the_rest_stays() -> None:
    kept = advanced(Kept(), NAMES, START)
    for field in ("signer_key", "chain", "key"):
        for content in (b"", b"garbage"):
            mended = advanced(msgspec.structs.replace(kept, **{field: content}), NAMES, START)
            assert trusted(mended, mended, START)
            assert set(authorities(kept)) <= set(authorities(mended)), "streams that run rely on it"
    lost = advanced(msgspec.structs.replace(kept, bundle=b"-----BEGIN CERTIFICATE-----\nxx\n"), NAMES, START)
    assert trusted(lost, lost, START)
    other = advanced(Kept(), NAMES, START)
    mixed = advanced(msgspec.structs.replace(kept, key=other.key), NAMES, START)
    assert trusted(mixed, kept, START)


def test_after_a_long_absence_everything_is_made_anew() -> None:
    kept = advanced(Kept(), NAMES, START)
    late = START + AUTHORITY_LIFE * 2
    anew = advanced(kept, NAMES, late)
    assert trusted(anew, anew, late)
    assert len(authorities(anew)) == 1
