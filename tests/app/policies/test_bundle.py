"""Bundles: the same bytes each time, fit for how they are delivered; scripts that parse and check their target."""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from app.applocker.model import Mode
from app.applocker.read import parse_policy
from app.cli.export import command
from app.errors import InvalidError
from app.policies.bundle import Bundle, Delivery, build_bundle
from app.policies.export import Export, plan_export
from app.policies.target_scripts import policy_state
from tests.app.policies.powershell_source import errors_in


def files_of(bundle: Bundle) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(bundle.content)) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture
def alone(developers: str) -> Export:
    return plan_export(["venv-python", "managed-python-exe"], developers)


@pytest.fixture
def whole(developers: str, base_policy: str) -> Export:
    return plan_export(["venv-python", "venv-activation-script"], developers, base=base_policy)


def test_the_same_export_gives_the_same_bytes(developers: str) -> None:
    first, again = (build_bundle(plan_export(["venv-python"], developers)) for _ in range(2))
    assert first.content == again.content
    assert first.sha256 == hashlib.sha256(first.content).hexdigest()
    with zipfile.ZipFile(io.BytesIO(first.content)) as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert archive.namelist() == sorted(archive.namelist())


@pytest.mark.parametrize("delivery", list(Delivery))
def test_checksums_name_every_file(whole: Export, delivery: Delivery) -> None:
    files = files_of(build_bundle(whole, delivery))
    sums = dict(reversed(line.split("  ", 1)) for line in files.pop("SHA256SUMS").decode().splitlines())
    assert sums == {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    assert {"README.txt", "review.html", "evidence.json"} <= set(files)


def test_rules_of_a_bundle_are_those_of_the_export(alone: Export, whole: Export) -> None:
    for export in (alone, whole):
        rules = parse_policy(files_of(build_bundle(export))["rules.xml"])
        assert {rule.id for _, rule in rules.rules()} == {rule.id for rule in export.added}
    assert files_of(build_bundle(whole))["whole-policy.xml"].decode() == whole.xml
    assert "whole-policy.xml" not in files_of(build_bundle(alone))


def test_modes_are_the_targets_own_and_never_audit_only_in_a_separate_object(whole: Export) -> None:
    def modes(delivery: Delivery) -> dict[str, Mode | None]:
        policy = parse_policy(files_of(build_bundle(whole, delivery))["rules.xml"])
        return {collection.type: collection.mode for collection in policy.collections}

    assert modes(Delivery.SAME_GPO) == {"Exe": Mode.ENABLED, "Script": Mode.AUDIT_ONLY}
    assert modes(Delivery.SEPARATE_GPO) == {"Exe": Mode.NOT_CONFIGURED, "Script": Mode.NOT_CONFIGURED}


def test_intune_gets_complete_collections_and_only_those_that_changed(alone: Export, whole: Export) -> None:
    files = files_of(build_bundle(whole, Delivery.INTUNE))
    assert {name for name in files if name.startswith("intune/")} == {"intune/EXE.xml", "intune/Script.xml"}
    assert "apply.ps1" not in files
    fragment = files["intune/EXE.xml"].decode()
    assert fragment.startswith("<RuleCollection")
    assert "(Default Rule) Windows" in fragment  # the base's own rules too
    assert all(rule.id in fragment for rule in whole.added if rule.collection == "Exe")
    with pytest.raises(InvalidError, match="complete collections") as refused:
        build_bundle(alone, Delivery.INTUNE)
    assert refused.value.field == "delivery"


def test_a_fragment_too_large_for_intune_is_refused(developers: str, base_policy: str) -> None:
    rule = re.search(r"<FilePathRule.*?</FilePathRule>", base_policy, re.DOTALL)
    assert rule
    many = "".join(
        rule[0].replace("921cc481-6e17-4653-8f75-050b80acca20", f"{number:08x}-0000-4000-8000-000000000000")
        for number in range(1500)
    )
    big = base_policy.replace(rule[0], many, 1)
    with pytest.raises(InvalidError, match="Intune takes 350000"):
        build_bundle(plan_export(["venv-python"], developers, base=big), Delivery.INTUNE)


def test_nothing_to_deliver_is_refused(developers: str, whole: Export) -> None:
    again = plan_export(["venv-python", "venv-activation-script"], developers, base=whole.xml)
    with pytest.raises(InvalidError, match="nothing to deliver"):
        build_bundle(again)
    with pytest.raises(InvalidError, match="no delivery 'post'"):
        build_bundle(whole, "post")


@pytest.mark.parametrize("delivery", [Delivery.SAME_GPO, Delivery.SEPARATE_GPO, Delivery.LOCAL])
def test_scripts_parse_and_know_what_they_apply(alone: Export, whole: Export, delivery: Delivery) -> None:
    assert errors_in(b"if ($x {\n}\n"), "the parser must see an error where there is one"
    for export in (alone, whole):
        files = files_of(build_bundle(export, delivery))
        for name in ("apply.ps1", "rollback.ps1"):
            script = files[name]
            assert errors_in(script) == []
            text = script.decode("ascii")
            assert "@@" not in text
            assert text.count("\n") == text.count("\r\n")
            assert set(re.findall(r"'([0-9a-f]{8}-[0-9a-f-]{27})'", text)) == {rule.id for rule in export.added}
            assert "SupportsShouldProcess" in text
        assert f"'{hashlib.sha256(files['rules.xml']).hexdigest()}'" in files["apply.ps1"].decode()


def test_apply_refuses_another_target_than_the_one_that_was_simulated(
    whole: Export, alone: Export, base_policy: str
) -> None:
    script = files_of(build_bundle(whole))["apply.ps1"].decode()
    assert f"$ExpectedStates = @(\r\n    '{policy_state(parse_policy(base_policy))}'\r\n)" in script
    assert "$IsSeparate = 'no' -eq 'yes'" in script
    assert "$ExpectedStates = @(\r\n\r\n)" in files_of(build_bundle(alone))["apply.ps1"].decode()
    separate = files_of(build_bundle(whole, Delivery.SEPARATE_GPO))["apply.ps1"].decode()
    assert "$ExpectedStates = @(\r\n\r\n)" in separate
    assert "$IsSeparate = 'yes' -eq 'yes'" in separate


def test_a_signed_manifest_can_be_checked_with_openssl(whole: Export, tmp_path: Path) -> None:
    key = Ed25519PrivateKey.generate()
    files = files_of(build_bundle(whole, key=key))
    manifest = json.loads(files["manifest.json"])
    Ed25519PublicKey.from_public_bytes(bytes.fromhex(manifest["public_key_ed25519"])).verify(
        files["manifest.sig"], files["manifest.json"]
    )
    named = manifest["files"]
    assert named == {
        name: hashlib.sha256(content).hexdigest()
        for name, content in files.items()
        if name not in ("manifest.json", "manifest.sig", "SHA256SUMS")
    }
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs openssl")
    (tmp_path / "manifest.json").write_bytes(files["manifest.json"])
    (tmp_path / "manifest.sig").write_bytes(files["manifest.sig"])
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "key.pem").write_bytes(pem)
    verify = [openssl, "pkeyutl", "-verify", "-rawin", "-inkey", "key.pem", "-in", "manifest.json"]
    done = subprocess.run(
        [*verify, "-sigfile", "manifest.sig"], cwd=tmp_path, capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0, done.stderr


def test_the_review_says_all_and_runs_nothing(whole: Export) -> None:
    page = files_of(build_bundle(whole))["review.html"].decode()
    for rule in whole.rules:
        assert rule.id in page
    assert "<script" not in page
    assert "&#x27;" in page or "&amp;" in page or "&quot;" in page  # text is escaped
    evidence = json.loads(files_of(build_bundle(whole))["evidence.json"])
    assert [rule["id"] for rule in evidence["rules"]] == [rule.id for rule in whole.rules]


def test_command_writes_a_bundle(
    tmp_path: Path, developers: str, base_policy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WAYLEAVE_DATA_DIR", str(tmp_path / "var"))
    base, out, key = tmp_path / "base.xml", tmp_path / "rules.zip", tmp_path / "key.pem"
    base.write_text(base_policy)
    pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    key.write_bytes(pem)
    options = ["bundle", "--pattern", "venv-python", "--sid", developers, "--out", str(out)]
    done = CliRunner().invoke(command, [*options, "--base", str(base), "--delivery", "intune", "--sign-with", str(key)])
    assert done.exit_code == 0, done.output
    assert zipfile.is_zipfile(out)
    key.write_text("not a key")
    for wrong, says in ((["--delivery", "intune"], "delivery: "), (["--sign-with", str(key)], "not a private key")):
        refused = CliRunner().invoke(command, [*options, *wrong])
        assert refused.exit_code == 2
        assert says in refused.stderr
