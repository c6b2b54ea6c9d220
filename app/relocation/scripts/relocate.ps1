#Requires -Version 5.1
<#
.SYNOPSIS
    Moves uv's directories: makes the folders with their rights, sets the variables and PATH, writes uv.toml.
.DESCRIPTION
    Run as administrator. It changes only what differs, and says what it did. With -WhatIf it only says what it would do.
    Nothing that uv put elsewhere before is removed.

    Written for Windows PowerShell 5.1. Not yet verified on a real domain: try it on a test machine first.
#>
[CmdletBinding(SupportsShouldProcess = $true, ConfirmImpact = 'Medium')]
param()

Set-StrictMode -Version 2
$ErrorActionPreference = 'Stop'

$AdminFolders = @@ADMIN_FOLDERS@@
$OwnFolders = @@OWN_FOLDERS@@
$SharedFolders = @@SHARED_FOLDERS@@
$ToolsFolder = @@TOOLS_FOLDER@@
$MachineVariables = @@MACHINE_VARIABLES@@
$UserVariables = @@USER_VARIABLES@@
$PathFolders = @@PATH_FOLDERS@@
$UvToml = @@UV_TOML@@
$IsIntune = @@IS_INTUNE@@

function Set-FolderRights {
    param(
        [string] $Folder,
        [string[]] $Rights
    )
    if (-not (Test-Path -LiteralPath $Folder -PathType Container)) {
        New-Item -ItemType Directory -Path $Folder -Force | Out-Null
        Write-Output "made $Folder"
    }
    $arguments = @($Folder, '/inheritance:r', '/grant:r') + $Rights
    & "$env:SystemRoot\System32\icacls.exe" $arguments | Out-Null
    if ($LASTEXITCODE -ne 0) {
        throw "icacls failed for ${Folder}: $LASTEXITCODE"
    }
    Write-Output "rights set on $Folder"
}

function Set-EnvironmentValue {
    param(
        [string] $Key,
        [string] $Name,
        [string] $Value
    )
    $kind = 'String'
    if ($Value.Contains('%')) {
        $kind = 'ExpandString'
    }
    $item = Get-Item -LiteralPath $Key
    $before = $item.GetValue($Name, $null, 'DoNotExpandEnvironmentNames')
    if ($before -eq $Value) {
        Write-Output "$Name is $Value already"
        return
    }
    New-ItemProperty -LiteralPath $Key -Name $Name -Value $Value -PropertyType $kind -Force | Out-Null
    Write-Output "$Name = $Value (before: $before)"
}

$identity = [Security.Principal.WindowsIdentity]::GetCurrent()
$principal = New-Object -TypeName Security.Principal.WindowsPrincipal -ArgumentList $identity
if (-not $principal.IsInRole([Security.Principal.WindowsBuiltInRole]::Administrator)) {
    throw 'Run this as administrator.'
}

$admins = @('*S-1-5-18:(OI)(CI)F', '*S-1-5-32-544:(OI)(CI)F')
foreach ($folder in $AdminFolders) {
    if ($PSCmdlet.ShouldProcess($folder, 'Make the folder; administrators write, users read and run')) {
        Set-FolderRights -Folder $folder -Rights ($admins + @('*S-1-5-32-545:(OI)(CI)RX'))
    }
}
foreach ($folder in $OwnFolders) {
    if ($PSCmdlet.ShouldProcess($folder, 'Make the folder; each user may make one of their own in it')) {
        Set-FolderRights -Folder $folder -Rights ($admins + @('*S-1-5-32-545:(RX,AD)', '*S-1-3-0:(OI)(CI)(IO)F'))
    }
}
foreach ($folder in $SharedFolders) {
    if ($PSCmdlet.ShouldProcess($folder, 'Make the folder; all users may write in it')) {
        Set-FolderRights -Folder $folder -Rights ($admins + @('*S-1-5-32-545:(OI)(CI)M'))
    }
}

# uv locks the folder of tools even to read it: users need this one file, and no other, to be writable.
$ignore = Join-Path -Path $ToolsFolder -ChildPath '.gitignore'
$lock = Join-Path -Path $ToolsFolder -ChildPath '.lock'
if ($PSCmdlet.ShouldProcess($lock, 'Make .gitignore and .lock; users may write .lock')) {
    if (-not (Test-Path -LiteralPath $ignore)) {
        [IO.File]::WriteAllText($ignore, '*')
    }
    if (-not (Test-Path -LiteralPath $lock)) {
        [IO.File]::WriteAllText($lock, '')
    }
    & "$env:SystemRoot\System32\icacls.exe" $lock '/grant' '*S-1-5-32-545:(R,W)' | Out-Null
    if ($LASTEXITCODE -ne 0) {
        throw "icacls failed for ${lock}: $LASTEXITCODE"
    }
}

$machineKey = 'HKLM:\SYSTEM\CurrentControlSet\Control\Session Manager\Environment'
foreach ($name in $MachineVariables.Keys) {
    if ($PSCmdlet.ShouldProcess($name, "Set for the machine to $($MachineVariables[$name])")) {
        Set-EnvironmentValue -Key $machineKey -Name $name -Value $MachineVariables[$name]
    }
}
if ($UserVariables.Count -gt 0) {
    if ($IsIntune) {
        Write-Output 'Variables of users are not set: this script runs as SYSTEM. Deploy relocate.reg in the user context.'
    } else {
        foreach ($name in $UserVariables.Keys) {
            if ($PSCmdlet.ShouldProcess($name, "Set for the current user to $($UserVariables[$name])")) {
                Set-EnvironmentValue -Key 'HKCU:\Environment' -Name $name -Value $UserVariables[$name]
            }
        }
    }
}

$path = (Get-Item -LiteralPath $machineKey).GetValue('Path', '', 'DoNotExpandEnvironmentNames')
foreach ($folder in $PathFolders) {
    if (($path -split ';') -contains $folder) {
        Write-Output "PATH holds $folder already"
    } elseif ($PSCmdlet.ShouldProcess('PATH', "Add $folder")) {
        $path = $path.TrimEnd(';') + ';' + $folder
        New-ItemProperty -LiteralPath $machineKey -Name 'Path' -Value $path -PropertyType ExpandString -Force | Out-Null
        Write-Output "PATH now holds $folder"
    }
}

$file = Join-Path -Path $env:SystemDrive -ChildPath 'ProgramData\uv\uv.toml'
if ($PSCmdlet.ShouldProcess($file, 'Write')) {
    $folder = Split-Path -Path $file -Parent
    Set-FolderRights -Folder $folder -Rights ($admins + @('*S-1-5-32-545:(OI)(CI)RX'))
    $text = ($UvToml -join "`n") + "`n"
    if (Test-Path -LiteralPath $file) {
        $known = [IO.File]::ReadAllText($file)
        if ($known -ne $text) {
            throw "$file is there already and says something else: add the lines of uv.toml to it by hand."
        }
    }
    [IO.File]::WriteAllText($file, $text)
    Write-Output "wrote $file"
}
Write-Output 'Done. New variables hold for programs that start from now on; sign out and in again.'
