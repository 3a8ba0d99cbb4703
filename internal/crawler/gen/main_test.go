package main

import (
	"bytes"
	"os"
	"slices"
	"testing"

	"github.com/quickthorn/quickthorn/internal/defense"
)

func TestCatalogueIsWhatTheSourcesGive(t *testing.T) {
	want, err := build("../testdata/sources", "../overrides.yaml")
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile("../catalogue.json")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Fatal("catalogue.json is stale: run go generate ./internal/crawler")
	}
}

func TestPatternsBecomeTexts(t *testing.T) {
	tests := []struct {
		pattern string
		want    []string
	}{
		{`Googlebot\/`, []string{"Googlebot/"}},
		{`^curl`, []string{"curl"}},
		{`(^| )sentry\/`, []string{"sentry/"}},
		{`Ahrefs(Bot|SiteAudit)`, []string{"AhrefsBot", "AhrefsSiteAudit"}},
		{`Face(book){0,1}[Bb]ot`, []string{"FacebookBot", "FaceBot"}},
		{`Netumo|netumo`, []string{"Netumo"}},
		{`AdsBot-Google([^-]|$)`, nil},
		{`Current[\s\S]*RSS Reader`, nil},
		{`bot\d+`, nil},
		{`(unclosed`, nil},
	}
	for _, tt := range tests {
		got := literals(tt.pattern)
		if !slices.EqualFunc(got, tt.want, func(a, b string) bool { return key(a) == key(b) }) {
			t.Errorf("%s: %q, want %q", tt.pattern, got, tt.want)
		}
	}
}

func TestTagsCountOnlyWhenTheDescriptionAgrees(t *testing.T) {
	tests := []struct {
		tags        []string
		description string
		want        defense.Purpose
	}{
		{[]string{"seo"}, "Majestic SEO crawler", defense.PurposeSEO},
		{[]string{"seo"}, "Web crawler for content discovery", defense.PurposeOther},
		{[]string{"monitoring"}, "Website uptime monitoring", defense.PurposeMonitor},
		{[]string{"monitoring"}, "Recruitment platform crawler", defense.PurposeOther},
		{[]string{"ai-crawler"}, "Trains models", defense.PurposeOther},
		{[]string{"search-engine", "ai-crawler"}, "Search", defense.PurposeOther},
		{nil, "", defense.PurposeOther},
	}
	for _, tt := range tests {
		if got := purposeOfTags(tt.tags, tt.description); got != tt.want {
			t.Errorf("%v %q: %s, want %s", tt.tags, tt.description, got, tt.want)
		}
	}
}

func TestExamplesGiveWholeWords(t *testing.T) {
	got := wholeWords(found{tokens: []string{"findlink"}, instances: []string{"findlinks/1.0 (+http://example.org/findlinks/)", "findlink7", "findlink/2"}})
	if !slices.Equal(got, []string{"findlinks"}) {
		t.Fatalf("got %q", got)
	}
}
