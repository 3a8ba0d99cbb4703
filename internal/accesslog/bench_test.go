package accesslog_test

import (
	"bytes"
	"io"
	"os"
	"testing"

	"github.com/quickthorn/quickthorn/internal/accesslog"
)

func load(b *testing.B, name string, times int) []byte {
	b.Helper()
	src, err := accesslog.Open(name, nil)
	if err != nil {
		b.Fatal(err)
	}
	defer src.Close()
	data, err := io.ReadAll(src)
	if err != nil {
		b.Fatal(err)
	}
	if n := len(data); n > 0 && data[n-1] != '\n' {
		data = append(data, '\n')
	}
	return bytes.Repeat(data, times)
}

func benchmarkLog(b *testing.B, name string, times int) {
	data := load(b, name, times)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	lines := 0
	for b.Loop() {
		r := accesslog.NewReader(bytes.NewReader(data), nil)
		var e accesslog.Entry
		for {
			if err := r.Next(&e); err == io.EOF {
				break
			} else if err != nil {
				b.Fatal(err)
			}
		}
		lines += r.Stats().Lines
	}
	b.ReportMetric(float64(lines)/b.Elapsed().Seconds(), "lines/s")
}

func BenchmarkCombined(b *testing.B) { benchmarkLog(b, "testdata/elastic-apache_logs.log.gz", 1) }
func BenchmarkCaddy(b *testing.B) {
	benchmarkLog(b, "testdata/crowdsec/caddy-logs.log", 500)
}
func BenchmarkTraefik(b *testing.B) {
	benchmarkLog(b, "testdata/crowdsec/traefik_base-http-scenario.log", 100)
}
func BenchmarkNPM(b *testing.B) {
	benchmarkLog(b, "testdata/crowdsec/nginx-proxy-manager-logs.log", 500)
}

func BenchmarkFormatString(b *testing.B) {
	f, err := accesslog.Named(`$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent"`)
	if err != nil {
		b.Fatal(err)
	}
	p, l := f.NewParser(), []byte(line)
	var e accesslog.Entry
	b.ReportAllocs()
	for b.Loop() {
		if err := p.Parse(l, &e); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkGzip(b *testing.B) {
	data, err := os.ReadFile("testdata/elastic-apache_logs.log.gz")
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	lines := 0
	for b.Loop() {
		src, err := accesslog.Open("-", bytes.NewReader(data))
		if err != nil {
			b.Fatal(err)
		}
		r := accesslog.NewReader(src, nil)
		var e accesslog.Entry
		for r.Next(&e) == nil {
		}
		lines += r.Stats().Lines
		src.Close()
	}
	b.ReportMetric(float64(lines)/b.Elapsed().Seconds(), "lines/s")
}
