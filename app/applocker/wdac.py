"""A policy's Allow rules as an App Control (WDAC) supplemental policy, with all that could not be carried over.

App Control knows no users, no exceptions and no variable for Program Files, and its signers need the hash of the
issuing certificate, which AppLocker rules don't have: publishers are carried over only where the caller knows it.

source: Microsoft, App Control for Business: policy schema, file rule levels, file path rules, multiple policies
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field

from app.applocker.identify import NAMESPACE
from app.applocker.model import (
    EVERYONE,
    Action,
    AppLockerError,
    HashCondition,
    PathCondition,
    Policy,
    Problem,
    PublisherCondition,
    Rule,
    Version,
    format_version,
    in_order,
)
from app.applocker.paths import upcase
from app.applocker.write import DECLARATION, clipped, escape

_NAMESPACE = "urn:schemas-microsoft-com:sipolicy"
_PLATFORM = "{2E07F7E4-194C-4D20-B7C9-6F44A6C5A234}"
_GUID = re.compile(r"\{?([0-9A-Fa-f]{8}-(?:[0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12})\}?")
_CARRIES_NOTHING = "No rule was carried over: this policy allows nothing that its base does not."
_USERS = ("%OSDRIVE%\\USERS\\", "%OSDRIVE%\\PROGRAMDATA\\")


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """What App Control needs to know of a publisher: the issuing certificate's name and TBS hash, the leaf's name."""

    publisher: str
    issuer: str
    issuer_tbs: str
    leaf: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Supplemental:
    """The policy's XML and id, what is not in it and why, and what to know about what is."""

    xml: str
    policy_id: str
    carried: int
    left_out: tuple[tuple[Rule, str], ...]
    notes: tuple[str, ...]


def render_supplemental(
    policy: Policy, *, base_policy_id: str, name: str, certificates: Iterable[Certificate] = ()
) -> Supplemental:
    """The supplemental policy for a base policy's id (a GUID, with or without braces).

    raises: AppLockerError for a base id that is none.
    """
    found = _GUID.fullmatch(base_policy_id.strip())
    if not found:
        message = f"the base policy's id must be a GUID, not {base_policy_id[:60]!r}"
        raise AppLockerError((Problem(line=None, rule=None, message=message),))
    base = found[1].upper()
    parts = _Parts({upcase(each.publisher): each for each in certificates})
    for type, rule in in_order(policy).rules():
        parts.take(type, rule)
    content = "\n".join((base, *parts.file_rules, *parts.signers))
    policy_id = str(uuid.uuid5(NAMESPACE, content)).upper()
    return Supplemental(
        xml=parts.xml(base, policy_id, clipped(name)),
        policy_id=policy_id,
        carried=parts.carried,
        left_out=tuple(parts.left_out),
        notes=tuple(dict.fromkeys(parts.notes)) if parts.carried else (_CARRIES_NOTHING,),
    )


@dataclass(slots=True)
class _Parts:
    """What has been collected for the XML."""

    certificates: dict[str, Certificate]
    file_rules: list[str] = field(default_factory=list)
    file_rule_ids: list[str] = field(default_factory=list)
    signers: list[str] = field(default_factory=list)
    signer_ids: list[str] = field(default_factory=list)
    left_out: list[tuple[Rule, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    carried: int = 0

    def take(self, type: str, rule: Rule) -> None:
        """Carries a rule over, or says why not."""
        why = _why_not(type, rule) or self._carry(rule)
        if why:
            self.left_out.append((rule, why))
        else:
            self.carried += 1

    def _carry(self, rule: Rule) -> str | None:
        match rule.condition:
            case PathCondition():
                return self._path(rule, rule.condition.path)
            case HashCondition():
                return self._hashes(rule, rule.condition)
            case PublisherCondition():
                return self._publisher(rule, rule.condition)

    def _path(self, rule: Rule, path: str) -> str | None:
        paths = _app_control_paths(path)
        if not paths:
            return "App Control has no such path: it knows drives, shares, %OSDRIVE%, %WINDIR% and %SYSTEM32%"
        for each in paths:
            self._allow(rule.name, f'FilePath="{escape(each)}" MinimumFileVersion="0.0.0.0"')
            upper = upcase(each)
            if upper.startswith(_USERS) or re.match(r"C:\\(?:USERS|PROGRAMDATA)\\", upper):
                self.notes.append(
                    f"{each}: users can write there, so App Control ignores the rule unless the policy sets option 18 "
                    "(Disabled:Runtime FilePath Rule Protection), which makes it as weak as AppLocker's."
                )
            stars = upper.count("*") + upper.count("?")
            if stars > 1 or (stars == 1 and not (upper.startswith("*") or upper.endswith("*"))):
                self.notes.append(f"{each}: only Windows 11 takes more than one wildcard, or one within the path.")
        return None

    def _hashes(self, rule: Rule, condition: HashCondition) -> str | None:
        files = [file for file in condition.hashes if file.type == "SHA256"]
        if not files:
            return "its hashes are of types that AppLocker and App Control don't share"
        if len(files) < len(condition.hashes):
            self.notes.append(f"{rule.name}: hashes of other types than SHA256 are left out.")
        for file in files:
            self._allow(f"{file.source_name or rule.name} Hash Sha256", f'Hash="{file.data}"')
        return None

    def _publisher(self, rule: Rule, condition: PublisherCondition) -> str | None:
        certificate = self.certificates.get(upcase(condition.publisher))
        if certificate is None:
            return "App Control needs the hash of the issuing certificate, which is not known for this publisher"
        attribute = ""
        if (condition.product, condition.binary) != ("*", "*") or condition.low or condition.high:
            attribute_id = f"ID_FILEATTRIB_F_{len(self.file_rules) + 1:04X}"
            self.file_rules.append(f'<FileAttrib ID="{attribute_id}" {_attributes(rule.name, condition)} />')
            attribute = f'\n      <FileAttribRef RuleID="{attribute_id}" />'
        signer_id = f"ID_SIGNER_S_{len(self.signers) + 1:04X}"
        self.signers.append(
            f'<Signer ID="{signer_id}" Name="{escape(certificate.issuer)}">\n'
            f'      <CertRoot Type="TBS" Value="{escape(certificate.issuer_tbs)}" />\n'
            f'      <CertPublisher Value="{escape(certificate.leaf)}" />{attribute}\n'
            "    </Signer>"
        )
        self.signer_ids.append(signer_id)
        return None

    def _allow(self, name: str, what: str) -> None:
        rule_id = f"ID_ALLOW_A_{len(self.file_rules) + 1:04X}"
        self.file_rules.append(f'<Allow ID="{rule_id}" FriendlyName="{escape(clipped(name))}" {what} />')
        self.file_rule_ids.append(rule_id)

    def xml(self, base: str, policy_id: str, name: str) -> str:
        """The whole policy. The order of its elements is prescribed."""
        allowed = _block("AllowedSigners", [f'<AllowedSigner SignerId="{each}" />' for each in self.signer_ids], 10)
        refs = _block("FileRulesRef", [f'<FileRuleRef RuleID="{each}" />' for each in self.file_rule_ids], 10)
        products = (
            f"<ProductSigners>{allowed}{refs}\n        </ProductSigners>" if allowed or refs else "<ProductSigners />"
        )
        return f"""{DECLARATION}<SiPolicy xmlns="{_NAMESPACE}" PolicyType="Supplemental Policy">
  <VersionEx>10.0.0.0</VersionEx>
  <PlatformID>{_PLATFORM}</PlatformID>
  <Rules>
    <Rule>
      <Option>Enabled:Unsigned System Integrity Policy</Option>
    </Rule>
    <Rule>
      <Option>Enabled:Inherit Default Policy</Option>
    </Rule>
  </Rules>
  <EKUs />{_block("FileRules", self.file_rules, 2) or _NONE.format("FileRules")}{
            _block("Signers", self.signers, 2) or _NONE.format("Signers")
        }
  <SigningScenarios>
    <SigningScenario Value="131" ID="ID_SIGNINGSCENARIO_DRIVERS_1" FriendlyName="Kernel mode">
      <ProductSigners />
    </SigningScenario>
    <SigningScenario Value="12" ID="ID_SIGNINGSCENARIO_WINDOWS" FriendlyName="User mode">
        {products}
    </SigningScenario>
  </SigningScenarios>
  <UpdatePolicySigners />
  <CiSigners />
  <HvciOptions>0</HvciOptions>
  <BasePolicyID>{{{base}}}</BasePolicyID>
  <PolicyID>{{{policy_id}}}</PolicyID>
  <Settings>
    <Setting Provider="PolicyInfo" Key="Information" ValueName="Name">
      <Value>
        <String>{escape(name)}</String>
      </Value>
    </Setting>
    <Setting Provider="PolicyInfo" Key="Information" ValueName="Id">
      <Value>
        <String>{policy_id}</String>
      </Value>
    </Setting>
  </Settings>
</SiPolicy>
"""


_NONE = "\n  <{} />"


def _why_not(type: str, rule: Rule) -> str | None:
    if type in ("Appx", "ManagedInstaller"):
        return f"rules for {type} have no counterpart here"
    if rule.action is Action.DENY:
        return "a supplemental policy can only allow; Deny rules belong in the base policy"
    if rule.sid != EVERYONE:
        return "App Control knows no users: for everybody the rule would be wider"
    if rule.exceptions:
        return "App Control knows no exceptions: without them the rule would be wider"
    return None


def _app_control_paths(path: str) -> list[str]:
    """The path in App Control's words; nothing if it has none."""
    upper = upcase(path)
    if upper.startswith("%PROGRAMFILES%\\"):
        tail = path[len("%PROGRAMFILES%") :]
        return [f"%OSDRIVE%\\Program Files{tail}", f"%OSDRIVE%\\Program Files (x86){tail}"]
    if upper.startswith("%SYSTEM32%\\"):
        return [path, f"%WINDIR%\\SysWOW64{path[len('%SYSTEM32%') :]}"]
    if upper.startswith(("%OSDRIVE%\\", "%WINDIR%\\", "\\\\", "*")) or re.match(r"[A-Z]:\\", upper):
        return [path] if not re.search(r'[<>"|]|%.*%.*%', path) and not upper.startswith("\\\\?") else []
    return []


def _attributes(name: str, condition: PublisherCondition) -> str:
    texts = [("FriendlyName", clipped(name))]
    if condition.binary != "*":
        texts.append(("FileName", condition.binary))
    if condition.product != "*":
        texts.append(("ProductName", condition.product))
    lowest: Version = condition.low or (0, 0, 0, 0)
    texts.append(("MinimumFileVersion", format_version(lowest)))
    if condition.high:
        texts.append(("MaximumFileVersion", format_version(condition.high)))
    return " ".join(f'{key}="{escape(value)}"' for key, value in texts)


def _block(name: str, lines: list[str], indent: int) -> str:
    if not lines:
        return ""
    space = " " * indent
    inner = "".join(f"\n{space}  {line}" for line in lines)
    return f"\n{space}<{name}>{inner}\n{space}</{name}>"
