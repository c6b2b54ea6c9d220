function Get-LdapPath {
    if ($Local) {
        return ''
    }
    if ($Domain -notmatch '^[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+$') {
        throw "Name the domain with -Domain, such as corp.example.com; '$Domain' is none."
    }
    $parts = @($Domain.Split('.') | ForEach-Object { "DC=$_" })
    $name = 'CN={' + $GpoGuid.ToString().ToUpperInvariant() + '},CN=Policies,CN=System,' + ($parts -join ',')
    if ($DomainController -eq '') {
        return "LDAP://$name"
    }
    if ($DomainController -notmatch '^[A-Za-z0-9.-]+$') {
        throw "'$DomainController' is not the name of a domain controller."
    }
    return "LDAP://$DomainController/$name"
}

function Get-TargetName {
    if ($Local) {
        return "the local AppLocker policy of $env:COMPUTERNAME"
    }
    return "the Group Policy object $($GpoGuid.ToString()) of $($Domain.ToLowerInvariant())"
}

function Read-Policy {
    param(
        [string] $Text
    )
    $document = New-Object -TypeName System.Xml.XmlDocument
    $document.XmlResolver = $null
    $document.LoadXml($Text)
    return $document
}

function Get-TargetPolicy {
    param(
        [string] $Ldap
    )
    if ($Ldap -eq '') {
        $text = Get-AppLockerPolicy -Local -Xml
    }
    else {
        $text = Get-AppLockerPolicy -Domain -Ldap $Ldap -Xml
    }
    return Read-Policy -Text $text
}

function Get-RuleId {
    param(
        [System.Xml.XmlDocument] $Policy
    )
    foreach ($rule in $Policy.SelectNodes('/AppLockerPolicy/RuleCollection/*[@Id]')) {
        $rule.GetAttribute('Id').ToLowerInvariant()
    }
}

function Get-RuleCount {
    param(
        [System.Xml.XmlDocument] $Policy,
        [string] $Type
    )
    $count = 0
    foreach ($collection in $Policy.SelectNodes('/AppLockerPolicy/RuleCollection')) {
        if ($collection.GetAttribute('Type') -eq $Type) {
            $count += $collection.SelectNodes('*[@Id]').Count
        }
    }
    return $count
}

function Get-Mode {
    param(
        [System.Xml.XmlElement] $Collection
    )
    $mode = $Collection.GetAttribute('EnforcementMode')
    if ($mode -eq '') {
        return 'NotConfigured'
    }
    return $mode
}

function Compare-Mode {
    param(
        [System.Xml.XmlDocument] $Before,
        [System.Xml.XmlDocument] $After
    )
    $modes = @{}
    foreach ($collection in $Before.SelectNodes('/AppLockerPolicy/RuleCollection')) {
        $modes[$collection.GetAttribute('Type')] = Get-Mode -Collection $collection
    }
    foreach ($collection in $After.SelectNodes('/AppLockerPolicy/RuleCollection')) {
        $type = $collection.GetAttribute('Type')
        $mode = Get-Mode -Collection $collection
        if ($modes.ContainsKey($type) -and $modes[$type] -ne $mode) {
            "$type from $($modes[$type]) to $mode"
        }
    }
}

function Get-RuleLine {
    param(
        [System.Xml.XmlElement] $Rule
    )
    $type = $Rule.ParentNode.GetAttribute('Type')
    $id = $Rule.GetAttribute('Id').ToLowerInvariant()
    'rule|' + $type + '|' + $id + '|' + $Rule.GetAttribute('Action') + '|' + $Rule.GetAttribute('UserOrGroupSid')
    foreach ($place in @('Conditions', 'Exceptions')) {
        foreach ($node in $Rule.SelectNodes($place + '/FilePathCondition')) {
            $place + '|' + $id + '|path|' + $node.GetAttribute('Path')
        }
        foreach ($node in $Rule.SelectNodes($place + '/FilePublisherCondition')) {
            $range = $node.SelectSingleNode('BinaryVersionRange')
            $names = $node.GetAttribute('PublisherName') + '|' + $node.GetAttribute('ProductName') + '|' + $node.GetAttribute('BinaryName')
            $versions = $range.GetAttribute('LowSection') + '|' + $range.GetAttribute('HighSection')
            $place + '|' + $id + '|publisher|' + $names + '|' + $versions
        }
        foreach ($node in $Rule.SelectNodes($place + '/FileHashCondition/FileHash')) {
            $place + '|' + $id + '|hash|' + $node.GetAttribute('Type') + '|' + $node.GetAttribute('Data').ToUpperInvariant()
        }
    }
}

function Get-Digest {
    param(
        [string[]] $Line
    )
    $sorted = @($Line)
    [System.Array]::Sort($sorted, [System.StringComparer]::Ordinal)
    $bytes = [System.Text.Encoding]::UTF8.GetBytes($sorted -join "`n")
    $algorithm = [System.Security.Cryptography.SHA256]::Create()
    try {
        $hash = $algorithm.ComputeHash($bytes)
    }
    finally {
        $algorithm.Dispose()
    }
    return [System.BitConverter]::ToString($hash).Replace('-', '').ToLowerInvariant()
}

function Get-PolicyState {
    param(
        [System.Xml.XmlDocument] $Policy
    )
    $lines = New-Object -TypeName 'System.Collections.Generic.List[string]'
    foreach ($collection in $Policy.SelectNodes('/AppLockerPolicy/RuleCollection[*[@Id]]')) {
        $lines.Add('collection|' + $collection.GetAttribute('Type') + '|' + (Get-Mode -Collection $collection))
        foreach ($rule in $collection.SelectNodes('*[@Id]')) {
            foreach ($line in @(Get-RuleLine -Rule $rule)) {
                $lines.Add($line)
            }
        }
    }
    return Get-Digest -Line $lines.ToArray()
}

function Get-ChangedId {
    param(
        [System.Xml.XmlDocument] $Policy,
        [string[]] $State
    )
    $ids = @($State | ForEach-Object { $_.Split(' ')[0] })
    foreach ($rule in $Policy.SelectNodes('/AppLockerPolicy/RuleCollection/*[@Id]')) {
        $id = $rule.GetAttribute('Id').ToLowerInvariant()
        if ($ids -contains $id) {
            $found = Get-Digest -Line @(Get-RuleLine -Rule $rule)
            if ($State -notcontains "$id $found") {
                $id
            }
        }
    }
}

function Join-Policy {
    param(
        [System.Xml.XmlDocument] $Before,
        [System.Xml.XmlDocument] $Rules
    )
    $joined = Read-Policy -Text $Before.OuterXml
    $ids = @(Get-RuleId -Policy $joined)
    foreach ($collection in $Rules.SelectNodes('/AppLockerPolicy/RuleCollection[*[@Id]]')) {
        $place = $null
        foreach ($candidate in $joined.SelectNodes('/AppLockerPolicy/RuleCollection')) {
            if ($candidate.GetAttribute('Type') -eq $collection.GetAttribute('Type')) {
                $place = $candidate
            }
        }
        if ($null -eq $place) {
            $place = $joined.ImportNode($collection, $false)
            $null = $joined.DocumentElement.AppendChild($place)
        }
        foreach ($rule in $collection.SelectNodes('*[@Id]')) {
            if ($ids -notcontains $rule.GetAttribute('Id').ToLowerInvariant()) {
                $null = $place.AppendChild($joined.ImportNode($rule, $true))
            }
        }
    }
    return $joined
}

function Save-Text {
    param(
        [string] $Path,
        [string] $Text
    )
    [System.IO.File]::WriteAllText($Path, $Text, (New-Object -TypeName System.Text.UTF8Encoding -ArgumentList $false))
}

function Save-Backup {
    param(
        [string] $Folder,
        [string] $Stamp,
        [System.Xml.XmlDocument] $Policy
    )
    $null = New-Item -ItemType Directory -Path $Folder -Force
    $full = (Resolve-Path -LiteralPath $Folder).ProviderPath
    $file = Join-Path -Path $full -ChildPath "before-$Stamp.xml"
    Save-Text -Path $file -Text $Policy.OuterXml
    $saved = Read-Policy -Text ([System.IO.File]::ReadAllText($file))
    if ((Get-PolicyState -Policy $saved) -ne (Get-PolicyState -Policy $Policy)) {
        throw "The present policy could not be saved as $file; nothing was changed."
    }
    return $file
}

function Save-Record {
    param(
        [string] $BackupFile,
        [System.Xml.XmlDocument] $Before,
        [System.Xml.XmlDocument] $After
    )
    $record = New-Object -TypeName PSObject -Property @{
        target = Get-TargetName
        backup = $BackupFile
        stateBefore = Get-PolicyState -Policy $Before
        stateAfter = Get-PolicyState -Policy $After
        rules = $RuleIds
    }
    $name = (Split-Path -Path $BackupFile -Leaf) -replace '^before-', 'applied-' -replace '\.xml$', '.json'
    $file = Join-Path -Path (Split-Path -Path $BackupFile -Parent) -ChildPath $name
    Save-Text -Path $file -Text ($record | ConvertTo-Json)
}

function Get-Stamp {
    return (Get-Date).ToUniversalTime().ToString('yyyyMMdd-HHmmss-fff')
}
