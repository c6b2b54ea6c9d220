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
    service, and refuses to work where a group policy or device management sets AppLocker rules. Libraries are loaded
    twice (once as the agent does it, without resolving what they need, once in full), of scripts Safer is asked as
    PowerShell asks it, and one file is started by a task without elevation, to see which token counts.

    With -DeviceManagement it also sets a policy of device management for one case, as the system account and through the
    WMI bridge, and takes it away again.

    The result is a file of cases with what was observed as what is expected:
        wayleave policy test --cases observed.json     says where the engine disagrees with this PC
        wayleave verified load observed.json           records it
.PARAMETER Cases
    The questions: cases.json beside this script.
.PARAMETER Output
    Where the answers are written.
.PARAMETER StartFiles
    Start the files under each case's policy. Only on a machine that you can throw away.
.PARAMETER DeviceManagement
    Try a policy of device management beside the local one, too.
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

    [switch] $DeviceManagement,

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
$library = [Convert]::FromBase64String($content.library.base64)
$script = [Convert]::FromBase64String($content.script.base64)

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

    [StructLayout(LayoutKind.Sequential, CharSet = CharSet.Unicode)]
    private struct CodeProperties
    {
        public int Size, CheckFlags;
        public string ImagePath;
        public IntPtr ImageFile;
        public int UrlZone;
        [MarshalAs(UnmanagedType.ByValArray, SizeConst = 64)]
        public byte[] ImageHash;
        public int ImageHashSize;
        public long ImageSize;
        public int HashAlgorithm;
        public IntPtr ByteBlock, Window;
        public int TrustUi;
    }

    [DllImport("kernel32.dll", CharSet = CharSet.Unicode, SetLastError = true)]
    private static extern IntPtr LoadLibraryExW(string path, IntPtr file, uint flags);

    [DllImport("kernel32.dll")]
    private static extern bool FreeLibrary(IntPtr module);

    [DllImport("advapi32.dll", CharSet = CharSet.Unicode, SetLastError = true)]
    private static extern bool SaferIdentifyLevel(int count, ref CodeProperties properties, out IntPtr level, string bucket);

    [DllImport("advapi32.dll", SetLastError = true)]
    private static extern bool SaferComputeTokenFromLevel(IntPtr level, IntPtr from, out IntPtr token, int flags, IntPtr reserved);

    [DllImport("advapi32.dll")]
    private static extern bool SaferCloseLevel(IntPtr level);

    // 0, or the error with which Windows refused. Without resolving, no entry point is called, as the agent does it.
    public static int Load(string path, bool resolve)
    {
        IntPtr module = LoadLibraryExW(path, IntPtr.Zero, resolve ? 0u : 1u);
        if (module == IntPtr.Zero)
        {
            return Marshal.GetLastWin32Error();
        }
        FreeLibrary(module);
        return 0;
    }

    // 0 if PowerShell would run the script in full, 1260 if it would not, else the error of the call.
    public static int Ask(string path)
    {
        CodeProperties properties = new CodeProperties();
        properties.Size = Marshal.SizeOf(properties);
        properties.CheckFlags = 0xD;
        properties.ImagePath = path;
        properties.ImageHash = new byte[64];
        properties.TrustUi = 2;
        IntPtr level, token;
        if (!SaferIdentifyLevel(1, ref properties, out level, "SCRIPT"))
        {
            return Marshal.GetLastWin32Error();
        }
        try
        {
            if (!SaferComputeTokenFromLevel(level, IntPtr.Zero, out token, 1, IntPtr.Zero))
            {
                return Marshal.GetLastWin32Error();
            }
            if (token == IntPtr.Zero)
            {
                return 0;
            }
            CloseHandle(token);
            return 1260;
        }
        finally
        {
            SaferCloseLevel(level);
        }
    }

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
    param([string] $Path, [byte[]] $Content = $specimen)

    $folder = Split-Path -Path $Path -Parent
    if (-not (Test-Path -LiteralPath $folder)) {
        [void] (New-Item -ItemType Directory -Path $folder)
    }
    [IO.File]::WriteAllBytes($Path, $Content)
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
    if ($how -eq 'library') {
        Add-Specimen -Path $path -Content $library
        return $path
    }
    if ($how -eq 'script') {
        Add-Specimen -Path $path -Content $script
        return $path
    }
    if ($how -eq 'copied') {
        Add-Specimen -Path $path
        Copy-Item -LiteralPath (Join-Path -Path $env:SystemRoot -ChildPath $Case.make.target) -Destination $path -Force
        return $path
    }
    Add-Specimen -Path $path
    if ($how -eq 'limited') {
        return $path
    }
    if ($how -eq 'device') {
        return $path
    }
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

# Runs a command of Windows PowerShell by a task of its own, waits for it, and takes the task away.
function Invoke-ByTask {
    param([string] $Command, $Principal)

    $encoded = [Convert]::ToBase64String([Text.Encoding]::Unicode.GetBytes($Command))
    $program = Join-Path -Path $env:SystemRoot -ChildPath 'System32\WindowsPowerShell\v1.0\powershell.exe'
    $action = New-ScheduledTaskAction -Execute $program -Argument "-NoProfile -NonInteractive -EncodedCommand $encoded"
    [void] (Register-ScheduledTask -TaskName 'WayleaveConformance' -Action $action -Principal $Principal -Force)
    try {
        Start-ScheduledTask -TaskName 'WayleaveConformance'
        $deadline = (Get-Date).AddSeconds(60)
        do {
            Start-Sleep -Milliseconds 500
            $state = (Get-ScheduledTask -TaskName 'WayleaveConformance').State
        } while ($state -ne 'Ready' -and (Get-Date) -lt $deadline)
    }
    finally {
        Unregister-ScheduledTask -TaskName 'WayleaveConformance' -Confirm:$false
    }
}

# Starts a file as this user without elevation, and answers the error. Not to be had: no answer, which is none.
function Start-Limited {
    param([string] $Path)

    $answer = Join-Path -Path $root -ChildPath 'limited.txt'
    $command = @"
`$number = 0
try {
    `$process = [Diagnostics.Process]::Start('$Path')
    [void] `$process.WaitForExit(5000)
}
catch {
    `$number = `$_.Exception.GetBaseException().NativeErrorCode
}
[IO.File]::WriteAllText('$answer', [string] `$number)
"@
    $user = [Security.Principal.WindowsIdentity]::GetCurrent().Name
    $principal = New-ScheduledTaskPrincipal -UserId $user -LogonType Interactive -RunLevel Limited
    Invoke-ByTask -Command $command -Principal $principal
    if (-not (Test-Path -LiteralPath $answer)) {
        throw 'the process without elevation gave no answer: PowerShell itself may have been refused'
    }
    return [int] [IO.File]::ReadAllText($answer)
}

# Puts a policy of device management in force, or takes it away, as the system account through the WMI bridge.
function Set-DevicePolicy {
    param([string] $Collection)

    $escaped = [Security.SecurityElement]::Escape($Collection).Replace("'", "''")
    $command = @"
`$class = @{
    Namespace = 'root\cimv2\mdm\dmmap'
    ClassName = 'MDM_AppLocker_ApplicationLaunchRestrictions01_EXE03'
}
Get-CimInstance @class | Where-Object { `$_.ParentID -like '*WayleaveConformance' } | Remove-CimInstance
if ('$escaped' -ne '') {
    `$values = @{
        ParentID = './Vendor/MSFT/AppLocker/ApplicationLaunchRestrictions/WayleaveConformance'
        InstanceID = 'EXE'
        Policy = '$escaped'
    }
    New-CimInstance @class -Property `$values
}
"@
    $principal = New-ScheduledTaskPrincipal -UserId 'S-1-5-18' -LogonType ServiceAccount -RunLevel Highest
    Invoke-ByTask -Command $command -Principal $principal
}

function Find-Event {
    param([datetime] $Since)

    Start-Sleep -Milliseconds 1500
    $logs = @('Microsoft-Windows-AppLocker/EXE and DLL', 'Microsoft-Windows-AppLocker/MSI and Script')
    $filter = @{ LogName = $logs; Id = @(8002, 8003, 8004, 8005, 8006, 8007); StartTime = $Since }
    $found = Get-WinEvent -FilterHashtable $filter -ErrorAction SilentlyContinue |
        Where-Object { $_.ToXml() -like '*WayleaveConformance*' } |
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
        $isDevice = $case.make.how -eq 'device'
        try {
            if ($isDevice -and -not ($StartFiles -and $DeviceManagement)) {
                throw 'asked only with -StartFiles -DeviceManagement'
            }
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
                if ($isDevice) {
                    $since = Get-Date
                    Set-DevicePolicy -Collection $case.make.target
                    Wait-Policy -Since $since
                    # What Test-AppLockerPolicy says is of the local policy alone: here the start decides.
                }
                $since = Get-Date
                if ($case.make.how -eq 'library') {
                    $suspended = [WayleaveStarter]::Load($started, $false)
                    $resumed = [WayleaveStarter]::Load($started, $true)
                }
                elseif ($case.make.how -eq 'script') {
                    $suspended = [WayleaveStarter]::Ask($started)
                    $resumed = $suspended
                }
                elseif ($case.make.how -eq 'limited') {
                    $suspended = Start-Limited -Path $started
                    $resumed = $suspended
                }
                else {
                    $suspended = [WayleaveStarter]::Start($started, $false)
                    $resumed = [WayleaveStarter]::Start($started, $true)
                }
                if ($isDevice -or $case.make.how -eq 'limited') {
                    if ($suspended -eq 0) {
                        $expected['decision'] = 'Allowed'
                    }
                    else {
                        $expected['decision'] = 'DeniedByDefault'
                    }
                }
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
            if ($isDevice -and $StartFiles -and $DeviceManagement) {
                Set-DevicePolicy -Collection ''
            }
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
