"""Broken policies for the reader, by chance but repeatable: real ones, mutated in bytes, in text and in structure."""

from __future__ import annotations

import random

GOOD = """<?xml version="1.0" encoding="utf-8"?>
<!-- a policy --><AppLockerPolicy Version="1">
  <RuleCollection Type="Exe" EnforcementMode="Enabled">
    <FilePathRule Id="921cc481-6e17-4653-8f75-050b80acca20" Name="é ® n" Description="" UserOrGroupSid="S-1-1-0" Action="Allow">
      <Conditions><FilePathCondition Path="%WINDIR%\\*" /></Conditions>
      <Exceptions><FilePathCondition Path="%WINDIR%\\Temp\\*" /></Exceptions>
    </FilePathRule>
    <FilePublisherRule Id="b7af7102-efde-4369-8a89-7a6a392d1473" Name="p" Description="d" UserOrGroupSid="S-1-5-32-544" Action="Deny">
      <Conditions><FilePublisherCondition PublisherName="O=A, C=US" ProductName="*" BinaryName="*">
        <BinaryVersionRange LowSection="1.2.3.4" HighSection="*" /></FilePublisherCondition></Conditions>
    </FilePublisherRule>
    <FileHashRule Id="64ad46ff-0d71-4fa0-a30b-3f3d30c5433d" Name="h" Description="" UserOrGroupSid="S-1-1-0" Action="Allow">
      <Conditions><FileHashCondition><FileHash Type="SHA256" Data="0xABABABABABABABABABABABABABABABABABABABABABABABABABABABABABABABAB" SourceFileName="x" SourceFileLength="1" /></FileHashCondition></Conditions>
    </FileHashRule>
    <RuleCollectionExtensions><ThresholdExtensions><Services EnforcementMode="Enabled" /></ThresholdExtensions>
      <RedstoneExtensions><SystemApps Allow="Enabled" /></RedstoneExtensions><f:New xmlns:f="urn:f">text</f:New></RuleCollectionExtensions>
  </RuleCollection>
  <RuleCollection Type="Appx" EnforcementMode="NotConfigured" />
</AppLockerPolicy>
"""  # noqa: E501 - as real files are

PIECES = (
    "<",
    ">",
    "/>",
    "</",
    "&",
    "&amp;",
    "&#0;",
    "&#x41;",
    "&x;",
    '"',
    "'",
    "<!--",
    "-->",
    "<![CDATA[",
    "]]>",
    "<?x?>",
)
PIECES += (
    "\0",
    "\ufffe",
    "\ufeff",
    "\n",
    "\t",
    "\x1b",
    "é",
    "\U0001f600",
    "*",
    "0x",
    "-1",
    "65536.0.0.0",
    "9" * 30,
    "{",
    "}",
)
PIECES += (
    "<!DOCTYPE a [<!ENTITY x 'y'>]>",
    "xmlns=",
    'xmlns:a="b"',
    "RuleCollection",
    "FileHash",
    "Conditions",
    "Exceptions",
)
PIECES += (
    "Type=",
    "Audit",
    "a" * 2000,
    "<a>" * 40,
    "<FilePathRule/>",
    "<RuleCollection Type='Exe'/>",
    "<PolicyExtensions/>",
)


def broken(chance: random.Random) -> bytes | str:
    """One input. About one in twenty is still a policy."""
    text = GOOD
    kind = chance.random()
    if kind < 0.5:
        for _ in range(chance.choice((0, 1, 1, 2, 5, 20))):
            text = mutated(text, chance)
        return encoded(text, chance)
    if kind < 0.8:
        data = bytearray(GOOD.encode(chance.choice(("utf-8", "utf-16"))))
        for _ in range(chance.choice((1, 2, 8))):
            data[chance.randrange(len(data))] = chance.randrange(256)
        return bytes(data[: chance.choice((len(data), chance.randrange(len(data))))])
    if kind < 0.9:
        return "".join(chance.choice(PIECES) for _ in range(chance.randrange(30)))
    return chance.randbytes(chance.randrange(200))


def mutated(text: str, chance: random.Random) -> str:
    """The text with one thing put in, taken out, doubled or moved."""
    start = chance.randrange(len(text) + 1)
    end = min(len(text), start + chance.choice((0, 1, 5, 30, 300)))
    piece = chance.choice((chance.choice(PIECES), text[start:end] * 2, "", chr(chance.randrange(0xD800)), "\ud800"))
    return text[:start] + piece + text[end:]


def encoded(text: str, chance: random.Random) -> bytes | str:
    """As UTF-8, UTF-16 with or without mark, or text."""
    encoding = chance.choice(("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", ""))
    return text.encode(encoding, "surrogatepass") if encoding else text
