#Requires -Version 5.1
<#
.SYNOPSIS
    Asks this PC the questions that Wayleave's engine could only answer from documents, and writes down the answers.
.DESCRIPTION
    NOT YET RUN ON WINDOWS. Written for Windows PowerShell 5.1; only its syntax has been checked. Read it before you run
    it, and run it on a machine that you can throw away.

    Without -StartFiles it changes no policy: it lays out files below C:\WayleaveConformance and judges each case with
    Test-AppLockerPolicy.

    With -StartFiles it also sets each case's policy as the local AppLocker policy, starts the file twice (once left
    suspended and ended, once resumed) and reads the event. Meanwhile nothing but the case's file may be started on this
    machine. It then puts the policy back that was there. It needs an elevated prompt and the Application Identity
    service, and refuses to work where a group policy or device management sets AppLocker rules.

    The result is a file of cases with what was observed as what is expected:
        wayleave policy test --cases observed.json     says where the engine disagrees with this PC
        wayleave verified load observed.json           records it
.PARAMETER Cases
    The questions: cases.json beside this script.
.PARAMETER Output
    Where the answers are written.
.PARAMETER StartFiles
    Start the files under each case's policy. Only on a machine that you can throw away.
.PARAMETER IUnderstandThisMachineMayNeedToBeReset
    Has to be said with -StartFiles.
.EXAMPLE
    .\Test-WayleaveAssumptions.ps1 -Output observed.json
#>
[CmdletBinding()]
param(
    [string] $Cases = '',

    [Parameter(Mandatory = $true)]
    [string] $Output,

    [switch] $StartFiles,

    [switch] $IUnderstandThisMachineMayNeedToBeReset
)

Set-StrictMode -Version 2
$ErrorActionPreference = 'Stop'

if ($Cases -eq '') {
    $Cases = Join-Path -Path $PSScriptRoot -ChildPath 'cases.json'
}
$content = Get-Content -LiteralPath $Cases -Raw -Encoding UTF8 | ConvertFrom-Json
$root = $content.root
$specimen = [Convert]::FromBase64String($content.specimen.base64)

if ($root -ne 'C:\WayleaveConformance') {
    throw "The cases name another folder than C:\WayleaveConformance: $root"
}
if (Test-Path -LiteralPath $root) {
    throw "$root is there already: remove it first."
}

$starter = @'
using System;
using System.ComponentModel;
using System.Runtime.InteropServices;

public static class WayleaveStarter
{
    [StructLayout(LayoutKind.Sequential, CharSet = CharSet.Unicode)]
    private struct StartupInfo
    {
        public int Size;
        public string Reserved, Desktop, Title;
        public int X, Y, XSize, YSize, XCountChars, YCountChars, FillAttribute, Flags;
        public short ShowWindow, Reserved2Size;
        public IntPtr Reserved2, Input, Output, Error;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct ProcessInformation
    {
        public IntPtr Process, Thread;
        public int ProcessId, ThreadId;
    }

    [DllImport("kernel32.dll", CharSet = CharSet.Unicode, SetLastError = true)]
    private static extern bool CreateProcessW(string application, string command, IntPtr processAttributes,
        IntPtr threadAttributes, bool inherit, uint flags, IntPtr environment, string directory,
        ref StartupInfo startup, out ProcessInformation process);

    [DllImport("kernel32.dll")]
    private static extern bool TerminateProcess(IntPtr process, uint code);

    [DllImport("kernel32.dll")]
    private static extern uint ResumeThread(IntPtr thread);

    [DllImport("kernel32.dll")]
    private static extern uint WaitForSingleObject(IntPtr handle, uint milliseconds);

    [DllImport("kernel32.dll")]
    private static extern bool CloseHandle(IntPtr handle);

    // 0, or the error with which Windows refused.
    public static int Start(string path, bool resume)
    {
        StartupInfo startup = new StartupInfo();
        startup.Size = Marshal.SizeOf(startup);
        ProcessInformation process;
        // 0x4: suspended; 0x08000000: no console window
        if (!CreateProcessW(path, null, IntPtr.Zero, IntPtr.Zero, false, 0x08000004, IntPtr.Zero, "C:\\Windows",
            ref startup, out process))
        {
            return Marshal.GetLastWin32Error();
        }
        if (resume)
        {
            ResumeThread(process.Thread);
            WaitForSingleObject(process.Process, 5000);
        }
        TerminateProcess(process.Process, 0);
        WaitForSingleObject(process.Process, 5000);
        CloseHandle(process.Thread);
        CloseHandle(process.Process);
        return 0;
    }
}
'@

function Add-Specimen {
    param([string] $Path)

    $folder = Split-Path -Path $Path -Parent
    if (-not (Test-Path -LiteralPath $folder)) {
        [void] (New-Item -ItemType Directory -Path $folder)
    }
    [IO.File]::WriteAllBytes($Path, $specimen)
}

# Lays a case's file out, and answers the path by which it is started.
function New-CaseFile {
    param($Case)

    $path = $Case.file.path
    $how = $Case.make.how
    if ($how -eq 'junction') {
        Add-Specimen -Path $Case.make.target
        $link = Split-Path -Path $path -Parent
        [void] (New-Item -ItemType Junction -Path $link -Target (Split-Path -Path $Case.make.target -Parent))
        return $path
    }
    if ($how -eq 'hardlink') {
        $first = Join-Path -Path $root -ChildPath 'first\canary.exe'
        Add-Specimen -Path $first
        [void] (New-Item -ItemType Directory -Path (Split-Path -Path $path -Parent))
        [void] (New-Item -ItemType HardLink -Path $path -Target $first)
        return $path
    }
    Add-Specimen -Path $path
    if ($how -eq 'short') {
        $short = (New-Object -ComObject Scripting.FileSystemObject).GetFile($path).ShortPath
        if ($short -eq $path) {
            throw 'this volume makes no short names'
        }
        return $short
    }
    if ($how -eq 'slash') {
        return $path.Replace('\', '/')
    }
    if ($how -eq 'long') {
        return '\\?\' + $path
    }
    return $path
}

function Remove-CaseFiles {
    if (Test-Path -LiteralPath $root) {
        # A junction is taken away by itself: Remove-Item of 5.1 may follow it.
        Get-ChildItem -LiteralPath $root -Recurse -Force |
            Where-Object { $_.Attributes -band [IO.FileAttributes]::ReparsePoint } |
            ForEach-Object { [IO.Directory]::Delete($_.FullName) }
        Remove-Item -LiteralPath $root -Recurse -Force
    }
}

function Wait-Policy {
    param([datetime] $Since)

    # Event 8001: the policy was applied. Without it within a minute the answer would be that of another policy.
    $deadline = (Get-Date).AddSeconds(60)
    while ((Get-Date) -lt $deadline) {
        $filter = @{ LogName = 'Microsoft-Windows-AppLocker/EXE and DLL'; Id = 8001; StartTime = $Since }
        if (Get-WinEvent -FilterHashtable $filter -MaxEvents 1 -ErrorAction SilentlyContinue) {
            return
        }
        Start-Sleep -Milliseconds 500
    }
    throw 'AppLocker did not say that it applied the policy'
}

function Find-Event {
    param([datetime] $Since)

    Start-Sleep -Milliseconds 1500
    $filter = @{ LogName = 'Microsoft-Windows-AppLocker/EXE and DLL'; Id = @(8002, 8003, 8004); StartTime = $Since }
    $found = Get-WinEvent -FilterHashtable $filter -ErrorAction SilentlyContinue |
        Where-Object { $_.ToXml() -like '*canary.exe*' } |
        Select-Object -First 1
    if ($null -eq $found) {
        return $null
    }
    return $found.Id
}

$backup = $null
$restore = Join-Path -Path $env:TEMP -ChildPath 'wayleave-applocker-before.xml'
if ($StartFiles) {
    if (-not $IUnderstandThisMachineMayNeedToBeReset) {
        throw 'With -StartFiles say -IUnderstandThisMachineMayNeedToBeReset too. Only on a machine that you can throw away.'
    }
    $identity = New-Object Security.Principal.WindowsPrincipal ([Security.Principal.WindowsIdentity]::GetCurrent())
    if (-not $identity.IsInRole([Security.Principal.WindowsBuiltInRole]::Administrator)) {
        throw '-StartFiles needs an elevated prompt.'
    }
    if ((Get-Service -Name AppIDSvc).Status -ne 'Running') {
        throw 'Start the Application Identity service first.'
    }
    $backup = Get-AppLockerPolicy -Local -Xml
    if ((Get-AppLockerPolicy -Effective -Xml) -ne $backup) {
        throw 'Another AppLocker policy than the local one is in force here: answers would be those of both.'
    }
    $mdm = Join-Path -Path $env:SystemRoot -ChildPath 'System32\AppLocker\MDM'
    if (Test-Path -LiteralPath $mdm) {
        throw 'Device management has an AppLocker policy here: answers would be those of both.'
    }
    # Written before anything is changed: were this machine to lose power, the way back is there.
    [IO.File]::WriteAllText($restore, $backup)
    Add-Type -TypeDefinition $starter
}

$version = Get-ItemProperty -LiteralPath 'HKLM:\SOFTWARE\Microsoft\Windows NT\CurrentVersion'
$answers = @()
$problems = @()
try {
    foreach ($case in $content.cases) {
        try {
            $started = New-CaseFile -Case $case
            $policyFile = Join-Path -Path $root -ChildPath 'policy.xml'
            [IO.File]::WriteAllText($policyFile, $case.policy_xml)
            $judged = Test-AppLockerPolicy -XmlPolicy $policyFile -Path $case.file.path -User 'S-1-1-0'
            $expected = [ordered] @{ decision = [string] $judged.PolicyDecision }
            $observed = [ordered] @{ test_applocker_policy = [string] $judged.PolicyDecision }
            if ($StartFiles) {
                $since = Get-Date
                Set-AppLockerPolicy -XmlPolicy $policyFile
                Wait-Policy -Since $since
                $since = Get-Date
                $suspended = [WayleaveStarter]::Start($started, $false)
                $resumed = [WayleaveStarter]::Start($started, $true)
                $observed['error_suspended'] = $suspended
                $observed['error_resumed'] = $resumed
                $runtime = [ordered] @{ runs = ($suspended -eq 0) }
                $eventId = Find-Event -Since $since
                if ($null -ne $eventId) {
                    $runtime['event'] = $eventId
                }
                $expected['runtime'] = $runtime
            }
            $answer = [ordered] @{}
            foreach ($property in $case.PSObject.Properties) {
                $answer[$property.Name] = $property.Value
            }
            $answer['assumed'] = $case.expected
            $answer['expected'] = $expected
            $answer['observed'] = $observed
            $answer['confidence'] = 'high'
            $answers += $answer
        }
        catch {
            $problems += [ordered] @{ id = $case.id; problem = $_.Exception.Message }
        }
        finally {
            Remove-CaseFiles
        }
    }
}
finally {
    if ($null -ne $backup) {
        Set-AppLockerPolicy -XmlPolicy $restore
    }
}

$result = [ordered] @{
    about    = 'Observed by Test-WayleaveAssumptions.ps1'
    at       = (Get-Date).ToUniversalTime().ToString('yyyy-MM-ddTHH:mm:ssZ')
    windows  = [ordered] @{
        product = [string] $version.ProductName
        edition = [string] $version.EditionID
        build   = '{0}.{1}' -f $version.CurrentBuildNumber, $version.UBR
    }
    started  = [bool] $StartFiles
    cases    = $answers
    problems = $problems
}
$text = $result | ConvertTo-Json -Depth 12
[IO.File]::WriteAllText($ExecutionContext.SessionState.Path.GetUnresolvedProviderPathFromPSPath($Output), $text)
Write-Output ('{0} cases answered, {1} could not be asked. Written to {2}' -f $answers.Count, $problems.Count, $Output)
