#Requires -Version 5.1
<#
.SYNOPSIS
    Says whether this computer has the Intune grouping that these collections are for, and refuses it otherwise.
.DESCRIPTION
    Each fragment replaces one collection of the grouping that was the base. On a computer without that grouping it would
    be a new one: not added to the others, but needed besides them, so that less runs than before. This script reads what
    Intune put on this computer, changes nothing, and ends with exit code 1 where the base is not there. It must run as
    SYSTEM, as Intune's own scripts do: it can be the detection script of a remediation.

    Written for Windows PowerShell 5.1. Not yet verified on a managed computer: try it on a test machine first.
.EXAMPLE
    .\check-machine.ps1
#>
[CmdletBinding()]
param()

Set-StrictMode -Version 2
$ErrorActionPreference = 'Stop'

$RuleIds = @(
@@RULE_IDS@@
)
$Collections = @(
@@COLLECTIONS@@
)
$BaseRules = @(
@@BASE_RULES@@
)
$Classes = @{
    Exe = 'MDM_AppLocker_ApplicationLaunchRestrictions01_EXE03'
    Appx = 'MDM_AppLocker_ApplicationLaunchRestrictions01_StoreApps03'
    Dll = 'MDM_AppLocker_DLL03'
    Msi = 'MDM_AppLocker_MSI03'
    Script = 'MDM_AppLocker_Script03'
}

@@CHECKING@@

$problems = New-Object -TypeName 'System.Collections.Generic.List[string]'
foreach ($type in $Collections) {
    $groupings = @(Get-CimInstance -Namespace 'root\cimv2\mdm\dmmap' -ClassName $Classes[$type])
    if ($groupings.Count -eq 0) {
        $problems.Add("Intune put no $type rules on this computer.")
        continue
    }
    $told = @()
    foreach ($grouping in $groupings) {
        $text = [string] $grouping.Policy
        if (-not $text.TrimStart().StartsWith('<')) {
            $text = [System.Net.WebUtility]::HtmlDecode($text)
        }
        $policy = New-Object -TypeName System.Xml.XmlDocument
        $policy.XmlResolver = $null
        $policy.LoadXml('<AppLockerPolicy Version="1">' + $text + '</AppLockerPolicy>')
        $ids = @(Get-IdOfCollection -Policy $policy -Type $type)
        $told = @(Get-Problem -Type $type -Id $ids)
        if ($told.Count -eq 0) {
            break
        }
    }
    foreach ($problem in $told) {
        $problems.Add($problem)
    }
}
if ($problems.Count -gt 0) {
    foreach ($problem in $problems) {
        Write-Output $problem
    }
    Write-Output 'REFUSED: this computer does not have the grouping that these collections are for.'
    exit 1
}
Write-Output 'This computer has the grouping that these collections are for.'
exit 0
