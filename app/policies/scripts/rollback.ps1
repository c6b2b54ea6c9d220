#Requires -Version 5.1
<#
.SYNOPSIS
    Takes rules of an export out of an AppLocker policy again.
.DESCRIPTION
    Removes the rules with these ids and leaves all others, also those that were added since. With -BackupFile it
    restores a saved policy as a whole, but only into the target that it was saved from, and only if that still is what
    the script that saved it left. The present policy is saved before anything is changed, and the result is checked.

    Written for Windows PowerShell 5.1. Not yet verified on a real domain: try it on a test object first.
.PARAMETER GpoGuid
    The id of the Group Policy object.
.PARAMETER Domain
    The domain of the object, such as corp.example.com.
.PARAMETER DomainController
    The domain controller to write to. Without it Windows chooses one.
.PARAMETER Local
    Work on this computer's local policy instead.
.PARAMETER BackupFile
    A before-*.xml that one of these scripts saved: restore all of it. Its applied-*.json must lie beside it.
.PARAMETER BackupFolder
    Where the policy is saved before it is changed.
.EXAMPLE
    .\@@FILE_NAME@@ -GpoGuid 31B2F340-016D-11D2-945F-00C04FB984F9 -WhatIf
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

    [string] $BackupFile = '',

    [string] $BackupFolder = ''
)

Set-StrictMode -Version 2
$ErrorActionPreference = 'Stop'

$RuleIds = @(
@@RULE_IDS@@
)
$KnownRules = @(
@@KNOWN_RULES@@
)
$ExpectedStates = @(
@@EXPECTED_STATES@@
)
$SeenIds = @(
@@SEEN_IDS@@
)
$IsSeparate = '@@IS_SEPARATE@@' -eq 'yes'

@@COMMON@@

if ($IsSeparate -and $Local) {
    throw 'These rules are for a Group Policy object of their own: the local policy never had them.'
}
if ($BackupFolder -eq '') {
    $BackupFolder = Join-Path -Path $PSScriptRoot -ChildPath 'backup'
}
$ldap = Get-LdapPath
$target = Get-TargetName
$before = Get-TargetPolicy -Ldap $ldap
$state = Get-PolicyState -Policy $before
$changedIds = @()

if ($BackupFile -ne '') {
    $BackupFile = (Resolve-Path -LiteralPath $BackupFile).ProviderPath
    $recordFile = (Split-Path -Path $BackupFile -Leaf) -replace '^before-', 'applied-' -replace '\.xml$', '.json'
    $recordFile = Join-Path -Path (Split-Path -Path $BackupFile -Parent) -ChildPath $recordFile
    $record = Get-Content -LiteralPath $recordFile -Raw | ConvertFrom-Json
    $wanted = Read-Policy -Text ([System.IO.File]::ReadAllText($BackupFile))
    if ($record.target -ne $target) {
        throw "$BackupFile was saved from $($record.target), not from $target."
    }
    if ((Get-PolicyState -Policy $wanted) -ne $record.stateBefore) {
        throw "$BackupFile is not what was saved: it was changed, or is another file. Nothing was changed in the target."
    }
    if ($state -ne $record.stateAfter) {
        throw 'The target was changed since that backup was made: restoring all of it would undo that too. Run this script without -BackupFile to take out these rules alone.'
    }
    $what = "replace the whole policy by $BackupFile"
    $done = "Restored $target from $BackupFile."
}
else {
    $present = @(Get-RuleId -Policy $before | Where-Object { $RuleIds -contains $_ })
    if ($present.Count -eq 0) {
        Write-Output 'Nothing to do: the target has none of these rules.'
        return
    }
    if ($ExpectedStates.Count -gt 0 -and $ExpectedStates -notcontains $state) {
        throw "The target is not the policy that this was reviewed for (state $state, expected $($ExpectedStates -join ' or ')). Draft the removal again with the target's present policy as base."
    }
    if ($SeenIds.Count -gt 0) {
        $unseen = @(Get-RuleId -Policy $before | Where-Object { $SeenIds -notcontains $_ -and $RuleIds -notcontains $_ })
        if ($unseen.Count -gt 0) {
            throw "The target has $($unseen.Count) rules, such as $($unseen[0]), that were in force nowhere when this was reviewed. Draft the removal again with what is in force now as base."
        }
    }
    $changedIds = @(Get-ChangedId -Policy $before -State $KnownRules)
    $wanted = Read-Policy -Text $before.OuterXml
    foreach ($rule in @($wanted.SelectNodes('/AppLockerPolicy/RuleCollection/*[@Id]'))) {
        if ($RuleIds -contains $rule.GetAttribute('Id').ToLowerInvariant()) {
            $collection = $rule.ParentNode
            $null = $collection.RemoveChild($rule)
            # An object of its own sets no mode, and may be emptied: others hold the rules that keep the rest closed.
            $mayBeEmpty = $IsSeparate -and (Get-Mode -Collection $collection) -eq 'NotConfigured'
            if ($collection.SelectNodes('*[@Id]').Count -eq 0 -and -not $mayBeEmpty) {
                throw "Without these rules $($collection.GetAttribute('Type')) would have none, and everything of that kind would run; nothing was changed."
            }
        }
    }
    $what = "remove $($present.Count) AppLocker rules"
    $done = "Removed $($present.Count) rules from $target and left all others."
}
if ($changedIds.Count -gt 0) {
    Write-Warning -Message "$($changedIds.Count) of these rules, such as $($changedIds[0]), no longer do what was exported: somebody changed them. The backup keeps them as they are now."
}
if (-not $PSCmdlet.ShouldProcess($target, $what)) {
    return
}

$stamp = Get-Stamp
$saved = Save-Backup -Folder $BackupFolder -Stamp $stamp -Policy $before
Write-Output "Saved the present policy as $saved."

$file = [System.IO.Path]::GetTempFileName()
try {
    Save-Text -Path $file -Text $wanted.OuterXml
    if ($ldap -eq '') {
        Set-AppLockerPolicy -XmlPolicy $file
    }
    else {
        Set-AppLockerPolicy -XmlPolicy $file -Ldap $ldap
    }
}
finally {
    Remove-Item -LiteralPath $file -Force
}
$after = Get-TargetPolicy -Ldap $ldap
Save-Record -BackupFile $saved -Before $before -After $after
if ((Get-PolicyState -Policy $after) -ne (Get-PolicyState -Policy $wanted)) {
    throw "The policy is not as it should be. Put back what was there with: .\@@FILE_NAME@@ -BackupFile '$saved' and the same target."
}
Write-Output $done
