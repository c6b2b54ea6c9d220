#Requires -Version 5.1
<#
.SYNOPSIS
    Adds the rules of rules.xml to the AppLocker policy of one Group Policy object, or of this computer.
.DESCRIPTION
    Reads the target's policy, checks that it is the one these rules were simulated against, saves it, merges the
    rules, reads the policy again and checks that every rule is there and nothing else changed. With -WhatIf it only
    reads and checks. What it cannot do is told before anything is changed.

    Written for Windows PowerShell 5.1. Not yet verified on a real domain: try it on a test object first.
.PARAMETER GpoGuid
    The id of the Group Policy object, such as 31B2F340-016D-11D2-945F-00C04FB984F9.
.PARAMETER Domain
    The domain of the object, such as corp.example.com.
.PARAMETER DomainController
    The domain controller to write to. Without it Windows chooses one.
.PARAMETER Local
    Work on this computer's local policy instead.
.PARAMETER BackupFolder
    Where the policy is saved before it is changed.
.EXAMPLE
    .\apply.ps1 -GpoGuid 31B2F340-016D-11D2-945F-00C04FB984F9 -WhatIf
#>
[CmdletBinding(SupportsShouldProcess = $true, ConfirmImpact = 'High', DefaultParameterSetName = 'Gpo')]
param(
    [Parameter(Mandatory = $true, ParameterSetName = 'Gpo')]
    [guid] $GpoGuid,

    [Parameter(ParameterSetName = 'Gpo')]
    [string] $Domain = $env:USERDNSDOMAIN,

    [Parameter(ParameterSetName = 'Gpo')]
    [string] $DomainController = '',

    [Parameter(Mandatory = $true, ParameterSetName = 'Local')]
    [switch] $Local,

    [string] $BackupFolder = ''
)

Set-StrictMode -Version 2
$ErrorActionPreference = 'Stop'

$RulesSha256 = '@@RULES_SHA256@@'
$RuleIds = @(
@@RULE_IDS@@
)
$Collections = @(
@@COLLECTIONS@@
)
$ExpectedStates = @(
@@EXPECTED_STATES@@
)
$SeenIds = @(
@@SEEN_IDS@@
)
$TargetMustHaveRules = '@@TARGET_MUST_HAVE_RULES@@' -eq 'yes'

@@COMMON@@

$here = $PSScriptRoot
$rulesFile = Join-Path -Path $here -ChildPath 'rules.xml'
$found = (Get-FileHash -LiteralPath $rulesFile -Algorithm SHA256).Hash
if ($found -ne $RulesSha256) {
    throw "rules.xml was changed after it was exported: its SHA-256 is $found, not $RulesSha256."
}
if ($BackupFolder -eq '') {
    $BackupFolder = Join-Path -Path $here -ChildPath 'backup'
}

$ldap = Get-LdapPath
$before = Get-TargetPolicy -Ldap $ldap
$idsBefore = @(Get-RuleId -Policy $before)
$missing = @($RuleIds | Where-Object { $idsBefore -notcontains $_ })
if ($missing.Count -eq 0) {
    Write-Output 'Nothing to do: the target has all of these rules already.'
    return
}

$state = Get-PolicyState -Policy $before
if ($ExpectedStates.Count -gt 0 -and $ExpectedStates -notcontains $state) {
    throw "The target is not the policy that these rules were checked against (state $state, expected $($ExpectedStates -join ' or ')). Export again with the target's present policy as base."
}
if ($SeenIds.Count -gt 0) {
    $unseen = @($idsBefore | Where-Object { $SeenIds -notcontains $_ -and $RuleIds -notcontains $_ })
    if ($unseen.Count -gt 0) {
        throw "The target has $($unseen.Count) rules, such as $($unseen[0]), that were in force nowhere when these rules were checked. Export again with what is in force now as base."
    }
}
foreach ($type in $Collections) {
    $count = Get-RuleCount -Policy $before -Type $type
    if ($TargetMustHaveRules -and $count -eq 0) {
        throw "The target has no $type rules, so everything of that kind runs there. A first rule would block all the rest; nothing was changed."
    }
}

if ($ldap -eq '') {
    $target = 'the local AppLocker policy of this computer'
}
else {
    $target = $ldap
}
if (-not $PSCmdlet.ShouldProcess($target, "add $($missing.Count) AppLocker rules")) {
    return
}

$null = New-Item -ItemType Directory -Path $BackupFolder -Force
$stamp = (Get-Date).ToUniversalTime().ToString('yyyyMMdd-HHmmss')
$backupFile = Join-Path -Path $BackupFolder -ChildPath "before-$stamp.xml"
Save-Text -Path $backupFile -Text $before.OuterXml
Write-Output "Saved the present policy as $backupFile."

if ($ldap -eq '') {
    Set-AppLockerPolicy -XmlPolicy $rulesFile -Merge
}
else {
    Set-AppLockerPolicy -XmlPolicy $rulesFile -Merge -Ldap $ldap
}

$after = Get-TargetPolicy -Ldap $ldap
$idsAfter = @(Get-RuleId -Policy $after)
$absent = @($RuleIds | Where-Object { $idsAfter -notcontains $_ })
$lost = @($idsBefore | Where-Object { $idsAfter -notcontains $_ })
$changed = @(Compare-Mode -Before $before -After $after)
if ($absent.Count -gt 0 -or $lost.Count -gt 0 -or $changed.Count -gt 0) {
    throw "The policy is not as it should be: $($absent.Count) rules are missing, $($lost.Count) others were lost, changed modes: $($changed -join ', '). Restore it with: .\rollback.ps1 -BackupFile '$backupFile'"
}

$record = New-Object -TypeName PSObject -Property @{
    target = $target
    backup = $backupFile
    stateBefore = $state
    stateAfter = Get-PolicyState -Policy $after
    rules = $RuleIds
    at = $stamp
}
Save-Text -Path (Join-Path -Path $BackupFolder -ChildPath "applied-$stamp.json") -Text ($record | ConvertTo-Json)
Write-Output "Added $($missing.Count) rules to $target. All $($idsBefore.Count) rules that were there before still are."
Write-Output 'Clients take them with the next policy refresh (gpupdate /force); new processes only.'
