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
    $document = New-Object -TypeName System.Xml.XmlDocument
    $document.XmlResolver = $null
    $document.LoadXml($text)
    return $document
}

function Set-TargetPolicy {
    param(
        [string] $Ldap,
        [string] $File
    )
    if ($Ldap -eq '') {
        Set-AppLockerPolicy -XmlPolicy $File
    }
    else {
        Set-AppLockerPolicy -XmlPolicy $File -Ldap $Ldap
    }
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

function Get-PolicyState {
    param(
        [System.Xml.XmlDocument] $Policy
    )
    $lines = New-Object -TypeName 'System.Collections.Generic.List[string]'
    foreach ($collection in $Policy.SelectNodes('/AppLockerPolicy/RuleCollection[*[@Id]]')) {
        $type = $collection.GetAttribute('Type')
        $lines.Add('collection|' + $type + '|' + (Get-Mode -Collection $collection))
        foreach ($rule in $collection.SelectNodes('*[@Id]')) {
            $id = $rule.GetAttribute('Id').ToLowerInvariant()
            $lines.Add('rule|' + $type + '|' + $id + '|' + $rule.GetAttribute('Action') + '|' + $rule.GetAttribute('UserOrGroupSid'))
            foreach ($place in @('Conditions', 'Exceptions')) {
                foreach ($node in $rule.SelectNodes($place + '/FilePathCondition')) {
                    $lines.Add($place + '|' + $id + '|path|' + $node.GetAttribute('Path'))
                }
                foreach ($node in $rule.SelectNodes($place + '/FilePublisherCondition')) {
                    $range = $node.SelectSingleNode('BinaryVersionRange')
                    $names = $node.GetAttribute('PublisherName') + '|' + $node.GetAttribute('ProductName') + '|' + $node.GetAttribute('BinaryName')
                    $versions = $range.GetAttribute('LowSection') + '|' + $range.GetAttribute('HighSection')
                    $lines.Add($place + '|' + $id + '|publisher|' + $names + '|' + $versions)
                }
                foreach ($node in $rule.SelectNodes($place + '/FileHashCondition/FileHash')) {
                    $lines.Add($place + '|' + $id + '|hash|' + $node.GetAttribute('Type') + '|' + $node.GetAttribute('Data').ToUpperInvariant())
                }
            }
        }
    }
    $sorted = $lines.ToArray()
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

function Save-Text {
    param(
        [string] $Path,
        [string] $Text
    )
    [System.IO.File]::WriteAllText($Path, $Text, (New-Object -TypeName System.Text.UTF8Encoding -ArgumentList $false))
}
