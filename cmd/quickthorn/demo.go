package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/quickthorn/quickthorn/internal/command"
	"github.com/quickthorn/quickthorn/internal/config"
	"github.com/quickthorn/quickthorn/internal/defense"
	"github.com/quickthorn/quickthorn/internal/demo"
	"github.com/quickthorn/quickthorn/internal/explain"
	"github.com/quickthorn/quickthorn/internal/run"
	"github.com/quickthorn/quickthorn/internal/simulate"
)

func demoCommand(env *environment) *cobra.Command {
	var listen string
	var once bool
	c := &cobra.Command{
		Use:   "demo",
		Short: "Protect a built-in sample site and show what happens",
		Long:  "Protect a built-in sample site in mode enforce, send it a few visitors and explain each verdict, then serve on.\nData is kept in a temporary directory (or --data); no configuration file is read.",
		Args:  command.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithCancel(cmd.Context())
			defer cancel()
			handler, err := demo.Handler("")
			if err != nil {
				return err
			}
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				return err
			}
			site := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
			served := make(chan error, 1)
			go func() { served <- site.Serve(l) }()
			defer func() { site.Close(); <-served }()

			data := env.DataDir
			if data == "" {
				if data, err = os.MkdirTemp("", "quickthorn-demo-"); err != nil {
					return err
				}
				defer os.RemoveAll(data)
			}
			// The demo takes nothing from a configuration that may lie here, and no port from an install that may run here.
			cfg, err := config.Load(config.LoadOptions{Sets: env.Sets, Flags: []config.Flag{
				{Name: "demo", Path: "upstream.url", Value: "http://" + l.Addr().String()},
				{Name: "demo", Path: "policy.mode", Value: "enforce"},
				{Name: "demo", Path: "log.level", Value: "warn"},
				{Name: "demo", Path: "private.listen", Value: "127.0.0.1:0"},
				{Name: "--listen", Path: "edge.listen", Value: listen},
				{Name: "--data", Path: "data.directory", Value: data},
			}})
			if err != nil {
				return err
			}
			return env.serve(ctx, cfg, func(ctx context.Context, p *run.Program) error {
				if once {
					defer cancel()
				}
				return env.showDemo(ctx, p, once)
			})
		},
	}
	c.Flags().StringVar(&listen, "listen", "127.0.0.1:8080", "public `address`")
	c.Flags().BoolVar(&once, "once", false, "show the requests and end, instead of serving on")
	return c
}

// The demo's visitors: what each sends.
var demoVisitors = []struct {
	title   string
	path    string
	headers []string
}{
	{"A reader with Firefox opens a page", "/articles/gates", []string{
		"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0",
		"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "Accept-Language: en-GB,en;q=0.5",
		"Accept-Encoding: gzip, deflate, br, zstd", "Upgrade-Insecure-Requests: 1", "Sec-Fetch-Dest: document", "Sec-Fetch-Mode: navigate", "Sec-Fetch-Site: none", "Sec-Fetch-User: ?1", "Connection: keep-alive",
	}},
	{"An AI training crawler asks for the same page", "/articles/gates", []string{
		"User-Agent: Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; GPTBot/1.2; +https://openai.com/gptbot)", "Accept: */*", "Accept-Encoding: gzip, br, deflate",
	}},
	{"The same crawler reads robots.txt, which is always allowed", "/robots.txt", []string{
		"User-Agent: Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; GPTBot/1.2; +https://openai.com/gptbot)", "Accept: */*",
	}},
	{"A feed reader fetches the feed", "/feed.xml", []string{"User-Agent: Mozilla/5.0 (compatible; Miniflux/2.2.6; +https://miniflux.app)", "Accept: application/rss+xml"}},
}

func (env *environment) showDemo(ctx context.Context, p *run.Program, once bool) error {
	base := "http://" + p.Addr().String()
	client := &http.Client{Timeout: 10 * time.Second}
	fmt.Fprintf(env.Stdout, "A sample site is at %s, protected by quickthorn.\n", base)
	for _, v := range demoVisitors {
		q := explain.Question{URL: base + v.path, Headers: v.headers, Client: "127.0.0.1"}
		r, _, err := q.Request()
		if err != nil {
			return err
		}
		req, err := http.NewRequestWithContext(ctx, r.Method, base+v.path, nil)
		if err != nil {
			return err
		}
		req.Header = r.Header
		res, err := client.Do(req)
		if err != nil {
			return err
		}
		_, _ = io.Copy(io.Discard, res.Body)
		res.Body.Close()
		fmt.Fprintf(env.Stdout, "\n── %s\nGET %s → %s\n", v.title, v.path, res.Status)
		if report, err := p.Explain(&q); err != nil {
			return err
		} else if err := report.WriteText(env.Stdout, false); err != nil {
			return err
		}
	}
	if err := env.demoCampaign(ctx); err != nil {
		return err
	}
	if !once {
		fmt.Fprintf(env.Stdout, `
Now try it yourself; this window shows nothing more, Ctrl-C ends the demo.
  a browser     %[1]s
  a crawler     curl -i -A 'ClaudeBot/1.0' %[1]s/articles/wrens
  metrics       curl http://%[2]s/metrics
`, base, p.PrivateAddr())
	}
	return nil
}

// demoCampaign shows what no single request shows: many addresses that ask for little each.
func (env *environment) demoCampaign(ctx context.Context) error {
	s, err := simulate.Find("campaign")
	if err != nil {
		return err
	}
	r, err := (&run.Rehearsal{Config: config.Default(), Mode: defense.ModeEnforce, Scenario: s, Seed: 1, Scale: 0.5}).Run(ctx)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(env.Stdout, "\n── A campaign of 1,000 addresses, five pages each, among 1,000 readers (played in virtual time; quickthorn simulate campaign --why says more)\n%s\n", r.Result.Sentence())
	return err
}
