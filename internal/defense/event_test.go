package defense

import (
	"bytes"
	"encoding/json"
	"os"
	"reflect"
	"testing"
)

// The file holds one event with every field and one with none of the optional ones.
// Producers and consumers of events both test against it.
func TestEventKeepsItsContract(t *testing.T) {
	text, err := os.ReadFile("testdata/event.v1.json")
	if err != nil {
		t.Fatal(err)
	}
	var events []Event
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&events); err != nil {
		t.Fatal(err)
	}
	again, err := json.Marshal(events)
	if err != nil {
		t.Fatal(err)
	}
	var want, got any
	if err := json.Unmarshal(text, &want); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(again, &got); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("the events came back as\n%s", again)
	}
	for i, e := range events {
		if e.Schema != EventSchema {
			t.Errorf("event %d has schema %d, this package writes %d", i, e.Schema, EventSchema)
		}
	}
}

// A field that is added to Event must be added to the example too, or nobody tests it.
func TestEventContractExampleHasEveryField(t *testing.T) {
	text, err := os.ReadFile("testdata/event.v1.json")
	if err != nil {
		t.Fatal(err)
	}
	var events []Event
	if err := json.Unmarshal(text, &events); err != nil {
		t.Fatal(err)
	}
	var zero func(path string, v reflect.Value)
	zero = func(path string, v reflect.Value) {
		switch {
		case v.IsZero():
			t.Errorf("%s is not set in the full example", path)
		case v.Kind() == reflect.Pointer:
			zero(path, v.Elem())
		case v.Kind() == reflect.Struct && v.NumField() > 0 && v.Type().PkgPath() == reflect.TypeFor[Event]().PkgPath():
			for i := range v.NumField() {
				zero(path+"."+v.Type().Field(i).Name, v.Field(i))
			}
		}
	}
	full := events[0]
	full.Verdict.Basis, full.Verdict.Mode = BasisCertain, ModeEnforce // their zero values are values
	zero("Event", reflect.ValueOf(full))
}
