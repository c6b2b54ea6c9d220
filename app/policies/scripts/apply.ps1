#Requires -Version 5.1
<#
.SYNOPSIS
    Adds the rules of rules.xml to the AppLocker policy of one Group Policy object, or of this computer.
.DESCRIPTION
    Reads the target's policy and checks that it is fit for these rules; saves it; merges the rules; reads the policy
    again, and checks that it is what was there with these rules and nothing else. With -WhatIf it only reads and
    checks. What it cannot do is told before anything is changed.

    Which targets are fit: where the base of these rules was one policy, that policy as it was, or with the rules of the
    pilot. Where the base was seen in force, the sum of several policies, a target whose rules were all among those
    seen, by their ids: that their content or mode is the same is not known. For an object of its own, one that is empty.

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
.PARAMETER OtherComputer
    For an object of its own: this computer will not get the object, so it needs no other rules. Run check-machine.ps1
    on one that will.
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

    [string] $BackupFolder = '',

    [switch] $OtherComputer
)

Set-StrictMode -Version 2
$ErrorActionPreference = 'Stop'

$RulesSha256 = '@@RULES_SHA256@@'
$RuleIds = @(
@@RULE_IDS@@
)
$KnownRules = @(
@@KNOWN_RULES@@
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
$BaseRules = @(
@@BASE_RULES@@
)
$IsSeparate = '@@IS_SEPARATE@@' -eq 'yes'

@@COMMON@@

@@CHECKING@@

if ($IsSeparate -and $Local) {
    throw 'These rules are for a Group Policy object of their own. In the local policy they could be the first of their kind, and block everything else.'
}
$here = $PSScriptRoot
$rulesFile = Join-Path -Path $here -ChildPath 'rules.xml'
$found = (Get-FileHash -LiteralPath $rulesFile -Algorithm SHA256).Hash
if ($found -ne $RulesSha256) {
    throw "rules.xml was changed after it was exported: its SHA-256 is $found, not $RulesSha256."
}
$rules = Read-Policy -Text ([System.IO.File]::ReadAllText($rulesFile))
if ($BackupFolder -eq '') {
    $BackupFolder = Join-Path -Path $here -ChildPath 'backup'
}

$ldap = Get-LdapPath
$target = Get-TargetName
$before = Get-TargetPolicy -Ldap $ldap
$idsBefore = @(Get-RuleId -Policy $before)
$changedIds = @(Get-ChangedId -Policy $before -State $KnownRules)
if ($changedIds.Count -gt 0) {
    throw "The target has $($changedIds.Count) rules with an id of this export that do something else, such as $($changedIds[0]): somebody changed them. Take them out first."
}
$missing = @($RuleIds | Where-Object { $idsBefore -notcontains $_ })
if ($missing.Count -eq 0) {
    Write-Output 'Nothing to do: the target has all of these rules already, as they were exported.'
    return
}

$state = Get-PolicyState -Policy $before
if ($ExpectedStates.Count -gt 0 -and $ExpectedStates -notcontains $state) {
    throw "The target is not the policy that these rules were made for (state $state, expected $($ExpectedStates -join ' or ')). Export again with the target's present policy as base."
}
if ($SeenIds.Count -gt 0) {
    $unseen = @($idsBefore | Where-Object { $SeenIds -notcontains $_ -and $RuleIds -notcontains $_ })
    if ($unseen.Count -gt 0) {
        throw "The target has $($unseen.Count) rules, such as $($unseen[0]), that were in force nowhere when these rules were made. Export again with what is in force now as base."
    }
}
if ($IsSeparate) {
    $ours = @($KnownRules | ForEach-Object { $_.Split(' ')[0] })
    $others = @($idsBefore | Where-Object { $ours -notcontains $_ })
    if ($others.Count -gt 0) {
        throw "The target has $($others.Count) other rules, such as $($others[0]): these rules are for an object of their own. Nothing was changed."
    }
    foreach ($collection in $before.SelectNodes('/AppLockerPolicy/RuleCollection')) {
        if ((Get-Mode -Collection $collection) -ne 'NotConfigured') {
            throw "The target sets a mode for $($collection.GetAttribute('Type')), which could win over that of the other objects. Set it to Not configured first."
        }
    }
    if (-not $OtherComputer) {
        $effective = Read-Policy -Text (Get-AppLockerPolicy -Effective -Xml)
        foreach ($type in $Collections) {
            $problems = @(Get-Problem -Type $type -Id @(Get-IdOfCollection -Policy $effective -Type $type))
            if ($problems.Count -gt 0) {
                throw "This computer lacks what these rules are added to: $($problems[0]) If it will not get the object, say -OtherComputer, and run check-machine.ps1 on one that will."
            }
        }
    }
}
else {
    foreach ($type in $Collections) {
        $count = Get-RuleCount -Policy $before -Type $type
        if ($count -eq 0) {
            throw "The target has no $type rules, so everything of that kind runs there. A first rule would block all the rest; nothing was changed."
        }
    }
}
$wanted = Join-Policy -Before $before -Rules $rules

if (-not $PSCmdlet.ShouldProcess($target, "add $($missing.Count) AppLocker rules")) {
    return
}

$stamp = Get-Stamp
$backupFile = Save-Backup -Folder $BackupFolder -Stamp $stamp -Policy $before
Write-Output "Saved the present policy as $backupFile."

if ($ldap -eq '') {
    Set-AppLockerPolicy -XmlPolicy $rulesFile -Merge
}
else {
    Set-AppLockerPolicy -XmlPolicy $rulesFile -Merge -Ldap $ldap
}

$after = Get-TargetPolicy -Ldap $ldap
Save-Record -BackupFile $backupFile -Before $before -After $after
if ((Get-PolicyState -Policy $after) -ne (Get-PolicyState -Policy $wanted)) {
    $idsAfter = @(Get-RuleId -Policy $after)
    $absent = @($RuleIds | Where-Object { $idsAfter -notcontains $_ })
    $lost = @($idsBefore | Where-Object { $idsAfter -notcontains $_ })
    $modes = @(Compare-Mode -Before $before -After $after)
    throw "The policy is not what was there with these rules: $($absent.Count) rules are missing, $($lost.Count) others were lost, changed modes: '$($modes -join ', ')'; or the content of a rule differs. Restore it with: .\rollback.ps1 -BackupFile '$backupFile' and the same target."
}
Write-Output "Added $($missing.Count) rules to $target. The other $($idsBefore.Count) rules and all modes are as they were."
Write-Output 'Clients take them with the next policy refresh (gpupdate /force); new processes only.'
