package alert

import (
	"testing"
	"time"
	_ "time/tzdata"
)

func TestQuietHoursFollowTheWallClock(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	const layout = "2006-01-02 15:04:05 MST"
	for _, c := range []struct {
		say      string
		from, to string
		now      string // UTC
		until    string // in Berlin; "": not quiet
	}{
		{"before", "12:00", "14:00", "2026-01-10 10:59:59", ""},
		{"from the first second", "12:00", "14:00", "2026-01-10 11:00:00", "2026-01-10 14:00:00 CET"},
		{"to the last second", "12:00", "14:00", "2026-01-10 12:59:59", "2026-01-10 14:00:00 CET"},
		{"after", "12:00", "14:00", "2026-01-10 13:00:00", ""},
		{"over midnight, in the evening", "22:00", "07:00", "2026-01-31 21:30:00", "2026-02-01 07:00:00 CET"},
		{"over midnight, in the morning", "22:00", "07:00", "2026-02-01 04:00:00", "2026-02-01 07:00:00 CET"},
		{"over midnight, at noon", "22:00", "07:00", "2026-02-01 11:00:00", ""},
		{"to midnight", "22:00", "00:00", "2026-02-01 22:00:00", "2026-02-02 00:00:00 CET"},
		{"from midnight", "00:00", "06:00", "2026-01-31 23:00:00", "2026-02-01 06:00:00 CET"},
		{"in summer", "22:00", "07:00", "2026-07-01 20:00:00", "2026-07-02 07:00:00 CEST"},
		{"the night that is an hour shorter", "22:00", "07:00", "2026-03-28 22:00:00", "2026-03-29 07:00:00 CEST"},
		{"the night that is an hour longer", "22:00", "07:00", "2026-10-24 22:00:00", "2026-10-25 07:00:00 CET"},
		{"an end that the clock leaves out", "22:00", "02:30", "2026-03-29 00:59:00", "2026-03-29 03:30:00 CEST"},
		{"an end that the clock shows twice, for the second time", "22:00", "02:30", "2026-10-25 01:10:00", "2026-10-25 02:30:00 CET"},
	} {
		t.Run(c.say, func(t *testing.T) {
			from, err1 := ParseClock(c.from)
			to, err2 := ParseClock(c.to)
			now, err3 := time.Parse(time.DateTime, c.now)
			if err1 != nil || err2 != nil || err3 != nil {
				t.Fatal(err1, err2, err3)
			}
			q := QuietHours{From: from, To: to, Location: berlin}
			until, ok := q.until(now)
			got := ""
			if ok {
				got = until.In(berlin).Format(layout)
			}
			if got != c.until {
				t.Errorf("quiet until %q, want %q", got, c.until)
			}
			if ok && !until.After(now) {
				t.Error("the end is not ahead")
			}
		})
	}
}
