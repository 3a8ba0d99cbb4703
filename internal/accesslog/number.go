package accesslog

import (
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"
	"unicode/utf8"
)

// parseInt reads a number that is not negative and fits an int64.
func parseInt(s string) (int64, bool) {
	if s == "" || len(s) > 18 {
		return 0, false
	}
	var n int64
	for i := range len(s) {
		c := s[i] - '0'
		if c > 9 {
			return 0, false
		}
		n = n*10 + int64(c)
	}
	return n, true
}

// parseSeconds reads a duration in the unit, with a fraction or without; 0 if it is none.
func parseSeconds(s string, unit time.Duration) time.Duration {
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || !(f >= 0) || f*float64(unit) >= math.MaxInt64 {
		return 0
	}
	return time.Duration(f * float64(unit))
}

// parseSecondsList adds up what nginx writes of several upstreams: "0.010, 0.020 : 0.5".
func parseSecondsList(s string) time.Duration {
	var sum time.Duration
	for part := range strings.FieldsFuncSeq(s, func(r rune) bool { return r == ',' || r == ':' || r == ' ' }) {
		d := parseSeconds(part, time.Second)
		if sum > math.MaxInt64-d {
			return math.MaxInt64
		}
		sum += d
	}
	return sum
}

// hex reads n hexadecimal digits at s[from:].
func hex(s string, from, n int) (rune, bool) {
	if len(s) < from+n {
		return 0, false
	}
	var v rune
	for i := from; i < from+n; i++ {
		c := s[i]
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'f':
			c -= 'a' - 10
		case 'A' <= c && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		v = v<<4 | rune(c)
	}
	return v, true
}

// appendUnicode appends the character of the \uHHHH, or of the pair of them, that s
// begins with, and returns the length of what it read.
func appendUnicode(b []byte, s string) ([]byte, int) {
	r, ok := hex(s, 2, 4)
	if !ok {
		return append(b, s[:2]...), 2
	}
	if utf16.IsSurrogate(r) {
		if len(s) >= 12 && s[6] == '\\' && s[7] == 'u' {
			if low, ok := hex(s, 8, 4); ok {
				if c := utf16.DecodeRune(r, low); c != utf8.RuneError {
					return utf8.AppendRune(b, c), 12
				}
			}
		}
		r = utf8.RuneError
	}
	return utf8.AppendRune(b, r), 6
}

// Times outside these years are taken for garbage.
const minYear, maxYear = 1990, 2200

// parseTime reads the forms in which servers write time: 10/Oct/2023:08:32:31 +0000
// (also with a fraction of a second, or without zone for UTC), and ISO 8601 / RFC 3339 with "T" or a space.
func parseTime(s string) (time.Time, bool) {
	s = strings.TrimSuffix(strings.TrimPrefix(s, "["), "]")
	if len(s) < 19 || len(s) > 40 {
		return time.Time{}, false
	}
	var year, month, day int
	var ok [3]bool
	if s[2] == '/' {
		if len(s) < 20 || s[6] != '/' || s[11] != ':' {
			return time.Time{}, false
		}
		day, ok[0] = digits(s[0:2])
		month, ok[1] = monthOf(s[3:6])
		year, ok[2] = digits(s[7:11])
		s = s[12:]
	} else {
		if s[4] != s[7] || s[4] != '-' && s[4] != '/' || s[10] != 'T' && s[10] != ' ' {
			return time.Time{}, false
		}
		year, ok[0] = digits(s[0:4])
		month, ok[1] = digits(s[5:7])
		day, ok[2] = digits(s[8:10])
		s = s[11:]
	}
	if !ok[0] || !ok[1] || !ok[2] || year < minYear || year > maxYear || month < 1 || month > 12 || day < 1 || day > daysIn(year, month) {
		return time.Time{}, false
	}
	if len(s) < 8 || s[2] != ':' || s[5] != ':' {
		return time.Time{}, false
	}
	hour, ok0 := digits(s[0:2])
	minute, ok1 := digits(s[3:5])
	second, ok2 := digits(s[6:8])
	if !ok0 || !ok1 || !ok2 || hour > 23 || minute > 59 || second > 60 {
		return time.Time{}, false
	}
	s = s[8:]
	nanos := 0
	if s != "" && (s[0] == '.' || s[0] == ',') {
		scale := 100_000_000
		i := 1
		for ; i < len(s) && '0' <= s[i] && s[i] <= '9'; i++ {
			nanos += int(s[i]-'0') * scale
			scale /= 10
		}
		s = s[i:]
	}
	offset, okZone := zone(strings.TrimPrefix(s, " "))
	if !okZone {
		return time.Time{}, false
	}
	unix := daysSince1970(year, month, day)*86400 + int64(hour*3600+minute*60+second-offset)
	return time.Unix(unix, int64(nanos)).UTC(), true
}

// digits reads a number of at most four digits.
func digits(s string) (int, bool) {
	n := 0
	for i := range len(s) {
		c := s[i] - '0'
		if c > 9 {
			return 0, false
		}
		n = n*10 + int(c)
	}
	return n, true
}

func monthOf(s string) (int, bool) {
	const names = "JanFebMarAprMayJunJulAugSepOctNovDec"
	i := strings.Index(names, s)
	return i/3 + 1, i >= 0 && i%3 == 0
}

func daysIn(year, month int) int {
	switch month {
	case 4, 6, 9, 11:
		return 30
	case 2:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	}
	return 31
}

// daysSince1970 counts days of the Gregorian calendar, with years beginning in
// March so that the leap day is the last.
func daysSince1970(year, month, day int) int64 {
	if month <= 2 {
		year--
		month += 12
	}
	return int64(365*year+year/4-year/100+year/400+(153*(month-3)+2)/5+day-1) - 719468
}

// zone reads "", "Z", "+0200", "+02:00", in seconds east of UTC.
func zone(s string) (int, bool) {
	switch s {
	case "", "Z", "+0000", "UTC", "GMT":
		return 0, true
	}
	if len(s) == 6 && s[3] == ':' {
		s = s[:3] + s[4:]
	}
	if len(s) != 5 || s[0] != '+' && s[0] != '-' {
		return 0, false
	}
	h, ok1 := digits(s[1:3])
	m, ok2 := digits(s[3:5])
	if !ok1 || !ok2 || h > 14 || m > 59 {
		return 0, false
	}
	offset := h*3600 + m*60
	if s[0] == '-' {
		offset = -offset
	}
	return offset, true
}

// parseUnix reads Unix time in the unit of the field, seconds with a fraction or without.
func parseUnix(s string, f field) (time.Time, bool) {
	whole, fraction, _ := strings.Cut(s, ".")
	n, ok := parseInt(whole)
	if !ok {
		return time.Time{}, false
	}
	var t time.Time
	switch f {
	case fieldMillis:
		t = time.UnixMilli(n)
	case fieldMicros:
		t = time.UnixMicro(n)
	default:
		nanos := int64(0)
		for i, scale := 0, int64(100_000_000); i < len(fraction) && scale > 0; i, scale = i+1, scale/10 {
			c := fraction[i] - '0'
			if c > 9 {
				return time.Time{}, false
			}
			nanos += int64(c) * scale
		}
		t = time.Unix(n, nanos)
	}
	t = t.UTC()
	return t, t.Year() >= minYear && t.Year() <= maxYear
}
