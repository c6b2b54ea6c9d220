#Requires -Version 5.1
<#
.SYNOPSIS
    Says whether this computer has the policy that these rules are to be added to, and refuses it otherwise.
.DESCRIPTION
    Rules of an object of their own only ever add to others. On a computer without those others they would be the first
    of their kind, and block everything else. This script reads the policy in force here, changes nothing, and ends with
    exit code 1 where the base is not there: link the object to no such computer.

    Written for Windows PowerShell 5.1. Not yet verified on a real domain: try it on a test machine first.
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

@@CHECKING@@

$policy = New-Object -TypeName System.Xml.XmlDocument
$policy.XmlResolver = $null
$policy.LoadXml((Get-AppLockerPolicy -Effective -Xml))
$problems = New-Object -TypeName 'System.Collections.Generic.List[string]'
foreach ($type in $Collections) {
    $ids = @(Get-IdOfCollection -Policy $policy -Type $type)
    foreach ($problem in @(Get-Problem -Type $type -Id $ids)) {
        $problems.Add($problem)
    }
}
if ($problems.Count -gt 0) {
    foreach ($problem in $problems) {
        Write-Output $problem
    }
    Write-Output 'REFUSED: this computer does not have the policy that these rules need.'
    exit 1
}
Write-Output 'This computer has the policy that these rules are added to.'
exit 0
