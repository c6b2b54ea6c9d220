function Get-IdOfCollection {
    param(
        [System.Xml.XmlDocument] $Policy,
        [string] $Type
    )
    foreach ($collection in $Policy.SelectNodes('/AppLockerPolicy/RuleCollection')) {
        if ($collection.GetAttribute('Type') -eq $Type) {
            foreach ($rule in $collection.SelectNodes('*[@Id]')) {
                $rule.GetAttribute('Id').ToLowerInvariant()
            }
        }
    }
}

function Get-Problem {
    param(
        [string] $Type,
        [string[]] $Id
    )
    $others = @($Id | Where-Object { $RuleIds -notcontains $_ })
    if ($others.Count -eq 0) {
        "There are no other $Type rules: these would be the first, and block everything else of that kind."
        return
    }
    $missing = @($BaseRules | Where-Object { $_.StartsWith("$Type ") -and $others -notcontains $_.Substring($Type.Length + 1) })
    if ($missing.Count -gt 0) {
        "$($missing.Count) $Type rules of the base are missing here, such as $($missing[0].Substring($Type.Length + 1))."
    }
}
