#Requires -Version 5.1
<#
.SYNOPSIS
    Takes the rules of this export out of an AppLocker policy again.
.DESCRIPTION
    Removes the rules with this export's ids and leaves all others, also those that were added since. With -BackupFile
    it restores a saved policy as a whole, but only if the target still is what apply.ps1 left.

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
    A before-*.xml that apply.ps1 saved: restore all of it. Its applied-*.json must lie beside it.
.EXAMPLE
    .\rollback.ps1 -GpoGuid 31B2F340-016D-11D2-945F-00C04FB984F9 -WhatIf
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

    [string] $BackupFile = ''
)

Set-StrictMode -Version 2
$ErrorActionPreference = 'Stop'

$RuleIds = @(
@@RULE_IDS@@
)

@@COMMON@@

$ldap = Get-LdapPath
$before = Get-TargetPolicy -Ldap $ldap
if ($ldap -eq '') {
    $target = 'the local AppLocker policy of this computer'
}
else {
    $target = $ldap
}

if ($BackupFile -ne '') {
    $BackupFile = (Resolve-Path -LiteralPath $BackupFile).ProviderPath
    $recordFile = (Split-Path -Path $BackupFile -Leaf) -replace '^before-', 'applied-' -replace '\.xml$', '.json'
    $recordFile = Join-Path -Path (Split-Path -Path $BackupFile -Parent) -ChildPath $recordFile
    $record = Get-Content -LiteralPath $recordFile -Raw | ConvertFrom-Json
    if ((Get-PolicyState -Policy $before) -ne $record.stateAfter) {
        throw 'The target was changed since apply.ps1 ran: restoring all of it would undo that too. Run rollback.ps1 without -BackupFile to take out these rules alone.'
    }
    if ($PSCmdlet.ShouldProcess($target, "replace the whole policy by $BackupFile")) {
        Set-TargetPolicy -Ldap $ldap -File $BackupFile
        Write-Output "Restored $target from $BackupFile."
    }
    return
}

$present = @(Get-RuleId -Policy $before | Where-Object { $RuleIds -contains $_ })
if ($present.Count -eq 0) {
    Write-Output 'Nothing to do: the target has none of these rules.'
    return
}
$wanted = New-Object -TypeName System.Xml.XmlDocument
$wanted.LoadXml($before.OuterXml)
foreach ($rule in @($wanted.SelectNodes('/AppLockerPolicy/RuleCollection/*[@Id]'))) {
    if ($RuleIds -contains $rule.GetAttribute('Id').ToLowerInvariant()) {
        $collection = $rule.ParentNode
        $null = $collection.RemoveChild($rule)
        if ($collection.SelectNodes('*[@Id]').Count -eq 0) {
            throw "Without these rules $($collection.GetAttribute('Type')) would have none, and everything of that kind would run; nothing was changed."
        }
    }
}
if (-not $PSCmdlet.ShouldProcess($target, "remove $($present.Count) AppLocker rules")) {
    return
}

$file = [System.IO.Path]::GetTempFileName()
try {
    Save-Text -Path $file -Text $wanted.OuterXml
    Set-TargetPolicy -Ldap $ldap -File $file
}
finally {
    Remove-Item -LiteralPath $file -Force
}
$after = Get-TargetPolicy -Ldap $ldap
if ((Get-PolicyState -Policy $after) -ne (Get-PolicyState -Policy $wanted)) {
    throw 'The policy is not as it should be after the removal: compare it with the backup that apply.ps1 saved.'
}
Write-Output "Removed $($present.Count) rules from $target and left all others."
