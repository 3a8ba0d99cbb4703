package pattern

import "testing"

func TestNamesFitPatterns(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		patterns []string
		name     string
		want     bool
	}{
		{nil, "gpt-5", true}, {[]string{"gpt-5"}, "gpt-5", true}, {[]string{"gpt-5"}, "gpt-50", false}, {[]string{"claude-1", "gpt-*"}, "gpt-5", true},
		{[]string{"gpt-*"}, "org/gpt-5", false}, {[]string{"["}, "[", false},
	} {
		if got := Any(tt.patterns, tt.name); got != tt.want {
			t.Errorf("%q, %q: %v", tt.patterns, tt.name, got)
		}
	}
	if Check("gpt-*", "claude") != nil || Check("gpt-*", "[") == nil {
		t.Error("what is a pattern")
	}
	if !Exact("gpt-5") || Exact("gpt-*") || Exact(`gpt\-5`) {
		t.Error("what is a name")
	}
}
