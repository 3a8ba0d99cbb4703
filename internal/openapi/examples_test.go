package openapi_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/quickthorn/quickthorn/internal/intake"
)

// post has events taken and compares the receipt.
func (c *checker) post(t *testing.T, w *world, x exchange, want intake.Receipt) {
	t.Helper()
	x.want = http.StatusAccepted
	var got intake.Receipt
	if err := json.Unmarshal(c.ask(t, w, x), &got); err != nil {
		t.Fatal(err)
	}
	if want.Rejected == nil {
		want.Rejected = []intake.Rejected{}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s, %s:\n%s", x.op, x.kind, diff)
	}
}

func TestTheExamplesOfEventsAreTaken(t *testing.T) {
	t.Parallel()
	c, w := newCheckers(t)["ai-service"], newWorld(t)
	const edge, webhook = "POST /v1/events", "POST /v1/webhook/{source}"
	for _, x := range []struct {
		op, kind string
		want     intake.Receipt
	}{
		{edge, asNDJSON, intake.Receipt{Accepted: 1}},
		{edge, asJSON, intake.Receipt{Duplicate: 1}}, // it is the same
		{webhook, asJSON, intake.Receipt{Accepted: 1}},
		{webhook, asNDJSON, intake.Receipt{Duplicate: 1}},
		{webhook, asText, intake.Receipt{Accepted: 1}},
	} {
		c.post(t, w, exchange{op: x.op, in: "shop", kind: x.kind, body: c.example(t, x.op, x.kind)}, x.want)
	}
}

func TestEveryKindOfEventThatIsDescribedIsTaken(t *testing.T) {
	t.Parallel()
	c, w := newCheckers(t)["ai-service"], newWorld(t)
	kinds := c.Components.Schemas["Event"].Value.Properties["kind"].Value.Enum
	var body strings.Builder
	for _, kind := range append(kinds, "nonsense") {
		e := events(t)[0]
		e.ID, e.Kind = newID(), kind.(string)
		body.WriteString(marshal(t, e) + "\n")
	}
	c.post(t, w, exchange{op: "POST /v1/events", kind: asNDJSON, body: body.String(), odd: true}, intake.Receipt{
		Accepted: len(kinds), Rejected: []intake.Rejected{{Index: len(kinds), Problem: `kind "nonsense": use request, challenge, tarpit, trap or appeal`}},
	})
}
