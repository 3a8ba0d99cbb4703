package main

import (
	"context"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// What the internet reaches, what holds a provider's key and what sees prompts each have nothing in them but their own work.
func TestEachServiceLinksItsOwnCodeOnly(t *testing.T) {
	const own = "github.com/quickthorn/quickthorn/internal/"
	stores := []string{"modernc.org/", "github.com/jackc/", "go.etcd.io/bbolt", "github.com/redis/", own + "store/"}
	slow := []string{own + "intake", own + "escalation", own + "casebook", own + "model", own + "alert", own + "reputation", own + "run", own + "backup", own + "jobs", own + "simulate", own + "demo", "github.com/wneessen/"}
	edge := []string{own + "edge", own + "proxy", own + "policy", own + "decision", own + "challenge", own + "upstream", own + "profile", "cel.dev/"}
	models := []string{own + "llm/"}
	// What gateways keep are their callers' budgets, in a file or in Redis.
	archives := []string{"modernc.org/", "github.com/jackc/", own + "store/"}
	for program, forbidden := range map[string][][]string{
		"proxy":         {stores, slow, models},
		"cloud-proxy":   {archives, slow, edge, {own + "llm/router"}},
		"prompt-router": {archives, slow, edge, {own + "llm/cloud"}},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		out, err := exec.CommandContext(ctx, "go", "list", "-deps", "../../"+program).Output()
		if err != nil {
			t.Fatalf("go list -deps %s: %v", program, err)
		}
		linked := strings.Fields(string(out))
		if len(linked) < 50 {
			t.Fatalf("%s links %d packages: is it a program?", program, len(linked))
		}
		for _, pkg := range linked {
			for _, list := range forbidden {
				for _, prefix := range list {
					if strings.HasPrefix(pkg, prefix) {
						t.Errorf("%s links %s", program, pkg)
					}
				}
			}
		}
	}
}
