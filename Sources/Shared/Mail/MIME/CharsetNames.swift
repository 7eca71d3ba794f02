// The charset labels of mail and what they mean. Labels are generous as the WHATWG Encoding Standard is: iso-8859-1
// means Windows-1252, gb2312 means GB18030, because that is what senders mean.

extension Charset {
    /// A label in lower case → the converter's name.
    static let names: [String: String] = {
        var names: [String: String] = [:]
        for (converter, labels) in table {
            for label in labels.split(separator: " ") {
                names[String(label)] = converter
                // Real mail writes iso8859_2, ISO88592 and the like.
                names[label.filter { $0 != "_" && $0 != "-" && $0 != ":" }] = converter
            }
        }
        return names
    }()

    private static let table: [(converter: String, labels: String)] = [
        (
            "",
            """
            utf-8 utf8 us-ascii ascii usascii ansi_x3.4-1968 iso-ir-6 646 iso646-us iso_646.irv:1991 \
            us ibm367 cp367 csascii unicode-1-1-utf-8 unicode11utf8 utf8mb4 utf-8n utf8n
            """
        ),
        (
            "WINDOWS-1252",
            """
            windows-1252 cp1252 iso-8859-1 iso8859-1 iso_8859-1 iso_8859-1:1987 iso-ir-100 latin1 \
            latin-1 l1 ibm819 cp819 csisolatin1 ansi 8859_1 iso88591 iso-8859_1 iso8859
            """
        ),
        ("ISO-8859-2", "iso-8859-2 iso_8859-2 iso8859-2 latin2 l2 csisolatin2 iso_8859-2:1987"),
        ("ISO-8859-3", "iso-8859-3 iso_8859-3 latin3 l3 csisolatin3"),
        ("ISO-8859-4", "iso-8859-4 iso_8859-4 latin4 l4 csisolatin4"),
        ("ISO-8859-5", "iso-8859-5 iso_8859-5 cyrillic csisolatincyrillic"),
        (
            "ISO-8859-6",
            """
            iso-8859-6 iso_8859-6 arabic iso-8859-6-i iso-8859-6-e ecma-114 asmo-708 \
            csisolatinarabic
            """
        ),
        ("ISO-8859-7", "iso-8859-7 iso_8859-7 greek greek8 ecma-118 csisolatingreek iso8859-7"),
        (
            "ISO-8859-8",
            """
            iso-8859-8 iso_8859-8 hebrew iso-8859-8-i iso-8859-8-e visual logical csisolatinhebrew \
            iso8859-8
            """
        ),
        ("WINDOWS-1254", "iso-8859-9 iso_8859-9 latin5 l5 csisolatin5 windows-1254 cp1254 iso8859-9"),
        ("ISO-8859-10", "iso-8859-10 latin6 l6 csisolatin6"),
        ("CP874", "iso-8859-11 tis-620 tis620 windows-874 cp874 dos-874 iso8859-11"),
        ("ISO-8859-13", "iso-8859-13 latin7 iso8859-13"),
        ("ISO-8859-14", "iso-8859-14 latin8 iso8859-14"),
        ("ISO-8859-15", "iso-8859-15 iso_8859-15 latin9 latin-9 l9 csisolatin9 iso8859-15"),
        ("ISO-8859-16", "iso-8859-16 latin10 l10 iso8859-16"),
        ("WINDOWS-1250", "windows-1250 cp1250"),
        ("WINDOWS-1251", "windows-1251 cp1251 win-1251 win1251"),
        ("WINDOWS-1253", "windows-1253 cp1253"),
        ("WINDOWS-1255", "windows-1255 cp1255"),
        ("WINDOWS-1256", "windows-1256 cp1256"),
        ("WINDOWS-1257", "windows-1257 cp1257"),
        ("WINDOWS-1258", "windows-1258 cp1258"),
        ("KOI8-R", "koi8-r koi8 koi cskoi8r"),
        ("KOI8-U", "koi8-u koi8-ru"),
        ("CP437", "ibm437 cp437 437"),
        ("CP850", "ibm850 cp850 850"),
        ("CP852", "ibm852 cp852 852"),
        ("CP855", "ibm855 cp855"),
        ("CP858", "ibm00858 cp858"),
        ("CP862", "ibm862 cp862 dos-862"),
        ("CP866", "ibm866 cp866 866 csibm866"),
        ("MACINTOSH", "macintosh mac macroman mac-roman"),
        ("MAC-CYRILLIC", "mac-cyrillic mac-ukrainian"),
        (
            "CP932",
            """
            shift_jis shift-jis sjis shiftjis ms_kanji windows-31j cp932 ms932 csshiftjis \
            cswindows31j
            """
        ),
        ("EUC-JP-MS", "euc-jp euc_jp eucjp cseucpkdfmtjapanese"),
        ("ISO-2022-JP", "iso-2022-jp csiso2022jp iso2022jp iso-2022-jp-1"),
        ("ISO-2022-JP-2", "iso-2022-jp-2 iso-2022-jp-ms cp50220 cp50221"),
        (
            "GB18030",
            """
            gb2312 gb_2312-80 gb2312-80 gbk gb18030 cp936 ms936 windows-936 euc-cn gb csgb2312 \
            chinese iso-ir-58 gb_2312 csiso58gb231280
            """
        ),
        ("BIG5-HKSCS", "big5 big5-hkscs big-5 csbig5 cp950 cn-big5 x-x-big5 big5hk"),
        ("EUC-TW", "euc-tw cns11643"),
        (
            "CP949",
            """
            euc-kr ks_c_5601-1987 ks_c_5601-1989 ksc5601 ksc_5601 ks_c_5601 korean windows-949 cp949 \
            cseuckr uhc ms949 iso-ir-149
            """
        ),
        ("JOHAB", "johab"),
        ("ISO-2022-KR", "iso-2022-kr csiso2022kr"),
        ("UTF-16", "utf-16 utf16 unicode ucs-2 iso-10646-ucs-2"),
        ("UTF-16LE", "utf-16le utf16le ucs-2le"),
        ("UTF-16BE", "utf-16be utf16be ucs-2be"),
        ("UTF-32", "utf-32 ucs-4"),
        ("UTF-32LE", "utf-32le"),
        ("UTF-32BE", "utf-32be"),
        ("UTF-7", "utf-7 unicode-1-1-utf-7 unicode-2-0-utf-7 csunicode11utf7 utf7"),
        ("VISCII", "viscii csviscii"),
        ("TCVN", "tcvn tcvn5712-1"),
        ("ARMSCII-8", "armscii-8"),
        ("GEORGIAN-ACADEMY", "georgian-academy"),
        ("PT154", "pt154 ptcp154"),
        ("RK1048", "rk1048 kz-1048"),
        ("KOI8-T", "koi8-t"),
    ]
}
