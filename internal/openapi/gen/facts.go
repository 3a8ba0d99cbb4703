package main

import (
	"fmt"
	"strings"

	"github.com/quickthorn/quickthorn/internal/behaviour"
)

// tagDocs says what belongs together.
func tagDocs() map[string]string {
	return map[string]string{
		"events":     "Requests as edges and other web servers report them.",
		"queue":      "What was acknowledged and is not archived yet.",
		"cases":      "The grouped suspicious events of a client or campaign, and what was made of them.",
		"challenges": "What edges remember together of challenges.",
		"decisions":  "Time-limited statements that every edge enforces.",
		"tarpit":     "Who is in the maze for scrapers, its switch, and the files that it is made from.",
		"mode":       "Which verdicts are carried out.",
		"archive":    "What is kept of requests.",
		"alerts":     "What the owner is told.",
		"explain":    "Why a request would be met as it would.",
		"backup":     "A copy of what is kept.",
		"judge":      "Judging cases. Nothing is kept.",
		"health":     "For whoever watches the service.",
	}
}

// names are those of types whose own name says too little outside of their package.
func names() map[string]string {
	return map[string]string{
		"casebook.Page": "CasePage", "record.Page": "EventPage", "decision.Listing": "DecisionPage", "decision.Change": "DecisionChange",
		"decision.Deleted": "DeletedDecisions", "decision.Problem": "DecisionProblem", "main.changes": "DecisionChanges",
		"decision.Imported": "ImportedDecisions", "intake.Label": "LabelSetting", "private.Mode": "ModeSetting", "alert.Result": "AlertResult",
		"explain.Question": "ExplainQuestion", "explain.Report": "ExplainReport", "explain.Verdict": "ExplainVerdict",
		"explain.Profile": "ExplainProfile", "explain.Decision": "ExplainDecision", "policy.Step": "ExplainStep",
		"escalation.Readiness": "Stages", "redemption.Answer": "FirstRedemption", "record.Counter": "VerdictCounter", "record.Harm": "HarmReport",
		"tarpit.Report": "TarpitReport", "tarpit.Held": "TarpitHeld", "tarpit.Theirs": "TarpitTheirs", "tarpit.Ours": "TarpitOurs", "tarpit.Client": "TarpitClient",
		"tarpit.Position": "TarpitPosition", "artifact.Listing": "ArtifactList",
	}
}

// facts are what holds for a field beyond its type. A test finds those about fields that are not there.
func facts() map[string]object {
	probability := object{"minimum": 0, "maximum": 1}
	score := object{"minimum": 0, "maximum": 100}
	weight := object{"minimum": -100, "maximum": 100}
	count := object{"minimum": 0}
	next := object{"description": "Ask again with before= this; missing after the last page."}
	ulid := object{"minLength": 26, "maxLength": 26}
	// A decision cannot observe or charge, and these scopes are enforced.
	actions := object{"enum": []any{"allow", "throttle", "challenge", "tarpit", "deny"}}
	scopes := object{"enum": []any{"address", "range", "fingerprint", "agent", "token"}}
	return map[string]object{
		"defense.Event.Schema":   {"enum": []any{1}},
		"defense.Event.Kind":     {"enum": []any{"request", "challenge", "tarpit", "trap", "appeal"}},
		"defense.Event.ID":       ulid,
		"defense.Signal.Weight":  weight,
		"defense.Decision.ID":    ulid,
		"defense.Decision.Scope": scopes, "defense.Decision.Action": actions,
		"defense.Proposal.Scope": scopes, "defense.Proposal.Action": actions,
		"main.newDecision.Scope": scopes, "main.newDecision.Action": actions,
		"main.newDecision.Value": {"maxLength": 256}, "main.newDecision.Reason": {"maxLength": 1024},
		"explain.Decision.Action":      actions,
		"defense.Proposal.Seconds":     {"minimum": 0},
		"defense.EventVerdict.Score":   score,
		"defense.EventResponse.Status": {"minimum": 0, "maximum": 999},
		"defense.EventResponse.Bytes":  count,
		"defense.EventTarpit.Held":     count,
		"defense.EventTarpit.Bytes":    count,
		"defense.Case.Score":           probability,
		"defense.Case.Strikes":         count,
		"defense.CaseMembers.Sample":   {"maxItems": 64},
		"defense.Features.Values":      {"nullable": true, "description": featureDocs()},
		"defense.Stage.Score":          probability,
		"defense.Stage.Contributions":  {"maxItems": 12},
		"defense.Judgement.Score":      probability,
		"intake.WebEvent.ID":           {"maxLength": 128},
		"intake.WebEvent.Target":       {"pattern": "^/"},
		"intake.WebEvent.Status":       {"minimum": 100, "maximum": 999},
		"intake.WebEvent.Bytes":        {"minimum": 0},
		"intake.WebEvent.Duration":     {"minimum": 0, "maximum": 86_400},
		"intake.WebEvent.Method":       {"minLength": 1},
		"intake.CounterBatch.ID":       ulid,
		"intake.CounterBatch.Edge":     {"maxLength": 128, "description": "Name of the edge that counted."},
		"intake.CounterBatch.Counters": {"maxItems": 50_000},
		"intake.Receipt.Accepted":      {"minimum": 0, "description": "Kept from now on."},
		"intake.Receipt.Duplicate":     {"minimum": 0, "description": "Known already, by id."},
		"intake.Receipt.Rejected":      {"maxItems": 100},
		"intake.Depth.Bytes":           count,
		"explain.Question.Headers":     {"maxItems": 200},
		"explain.Question.Method":      {"maxLength": 64},
		"decision.LineProblem.Line":    {"minimum": 1},
		"decision.Imported.Problems":   {"maxItems": 100},
		"decision.Problem.Status":      {"minimum": 400, "maximum": 599},
		"record.HarmGroup.Score":       score,
		"record.HarmGroup.LooksLike":   {"enum": []any{"browser", "app", "feed", "git", "preview", "crawler"}},
		"alert.Result.Seconds":         {"minimum": 0},
		"escalation.Readiness.Stages":  {"minItems": 1},
		"casebook.Page.Next":           next,
		"record.Page.Next":             next,
	}
}

// featureDocs describes the features, which are keys of an object.
func featureDocs() string {
	var list []string
	for _, f := range behaviour.Schema() {
		list = append(list, fmt.Sprintf("%s (%s): %s", f.Name, f.Unit, f.Doc))
	}
	return "The features by name, with their units. " + strings.Join(list, ". ") + "."
}
