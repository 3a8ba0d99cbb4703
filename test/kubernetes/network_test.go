package kubernetes

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/yaml"
)

// table is deploy/egress.yaml.
type table struct {
	Services map[string]struct {
		Calls  map[string]int `json:"calls"`
		Egress []string       `json:"egress"`
	} `json:"services"`
	Published map[string]int `json:"published"`
}

// node is somebody who calls or is called.
type node struct {
	name      string
	component string // of this install; "" outside of it
	namespace string // "": not of this cluster
	labels    labels.Set
	address   netip.Addr // of who is not of this cluster
}

// outside are the ones that are no pods of a rendering.
var outside = []node{
	{name: "name server", namespace: "kube-system", labels: labels.Set{"k8s-app": "kube-dns"}},
	{name: "another pod of kube-system", namespace: "kube-system", labels: labels.Set{"k8s-app": "other"}},
	{name: "Prometheus", namespace: "monitoring", labels: labels.Set{"app": "prometheus"}},
	{name: "protected site", namespace: "default", labels: labels.Set{"app": "shop", "quickthorn-upstream": "true"}},
	{name: "stranger", namespace: "default", labels: labels.Set{"app": "other", "app.kubernetes.io/component": "proxy"}},
	{name: "model", namespace: namespace, component: "ollama", labels: labels.Set{"app.kubernetes.io/component": "ollama"}},
	{name: "internet", address: netip.MustParseAddr("203.0.113.9")},
	{name: "internet by IPv6", address: netip.MustParseAddr("2001:db8::9")},
	{name: "store elsewhere", address: netip.MustParseAddr("10.1.2.3")},
	{name: "cloud metadata", address: netip.MustParseAddr("169.254.169.254")},
	{name: "private IPv6", address: netip.MustParseAddr("fd00::1")},
}

// asked are the ports that every one is tried at.
var asked = []int{22, 25, 53, 80, 443, 465, 587, 1025, 5002, 5432, 6379, 8000, 8001, 8003, 8008, 8009, 8025, 8080, 8081, 11434}

// The NetworkPolicies allow what the table says and nothing else, whoever calls whomever at whichever port. They are read as a
// network plugin would read them.
func TestNetworkPoliciesFollowTheTable(t *testing.T) {
	b, err := os.ReadFile(root + "/deploy/egress.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var tab table
	if err := yaml.UnmarshalStrict(b, &tab); err != nil {
		t.Fatal(err)
	}
	for _, r := range renderings(t) {
		policies := of[*networkingv1.NetworkPolicy](r)
		production := slices.ContainsFunc(policies, func(p *networkingv1.NetworkPolicy) bool { return p.Name == "redis-elsewhere" })
		nodes := slices.Clone(outside)
		for _, p := range r.pods() {
			nodes = append(nodes, node{name: p.owner.String(), component: p.Labels["app.kubernetes.io/component"], namespace: namespace, labels: labels.Set(p.Labels)})
		}
		for name := range tab.Services {
			if !slices.ContainsFunc(nodes, func(n node) bool { return n.component == name }) {
				t.Errorf("%s: no pod of %s", r.name, name)
			}
		}
		allowed := 0
		for _, from := range nodes {
			for _, to := range nodes {
				if from.namespace == "" && to.namespace == "" || from.name == to.name {
					continue
				}
				for _, port := range asked {
					got := permits(t, policies, &from, &to, port, true) && permits(t, policies, &to, &from, port, false)
					if want := tab.wants(&from, &to, port, production); got != want {
						t.Errorf("%s: %s to %s, port %d: allowed %t, want %t", r.name, from.name, to.name, port, got, want)
					}
					if got {
						allowed++
					}
				}
			}
		}
		if allowed == 0 {
			t.Errorf("%s: nothing is allowed", r.name)
		}
	}
}

// wants says what the table says.
func (tab *table) wants(from, to *node, port int, production bool) bool {
	if from.component == "" && to.component == "" {
		return true // not ours, and so not our policies'
	}
	s, listed := tab.Services[from.component]
	switch from.component {
	case "migrate": // the Job touches the stores and nothing else
		s.Calls, listed = map[string]int{"redis": 6379, "postgres": 5432}, true
	case "": // from outside
		if tab.Published[to.component] == port {
			// The admin is published on the loopback address only: kubectl port-forward arrives there, past all policies.
			return to.component != "admin"
		}
		_, service := tab.Services[to.component]
		return from.name == "Prometheus" && port == 8081 && (service || to.component == "migrate")
	}
	if !listed {
		return false // stores, the mail catcher, the sample site, a model: they call nobody
	}
	reaches := func(ways ...string) bool {
		return slices.ContainsFunc(ways, func(way string) bool { return slices.Contains(s.Egress, way) })
	}
	switch {
	case to.component == "demo-site":
		return reaches("upstreams") && port == 8080
	case to.component != "":
		return s.Calls[to.component] == port
	}
	switch to.name {
	case "name server":
		return port == 53 && (len(s.Calls) > 0 || reaches("dns"))
	case "protected site":
		return reaches("upstreams")
	case "internet", "internet by IPv6":
		switch port {
		case 443:
			return reaches("acme", "alert-targets", "reputation", "providers", "oidc-issuer", "feeds")
		case 25, 465, 587:
			return reaches("alert-targets")
		}
	case "store elsewhere":
		return production && (port == 6379 && s.Calls["redis"] == port || port == 5432 && s.Calls["postgres"] == port)
	}
	return false
}

// permits reports whether the policies let a, which they may be about, call b (out) or be called by it.
func permits(t *testing.T, policies []*networkingv1.NetworkPolicy, a, b *node, port int, out bool) bool {
	t.Helper()
	direction := networkingv1.PolicyTypeIngress
	if out {
		direction = networkingv1.PolicyTypeEgress
	}
	isolated := false
	for _, p := range policies {
		if a.namespace != p.Namespace || !matches(t, &p.Spec.PodSelector, a.labels) || !slices.Contains(p.Spec.PolicyTypes, direction) {
			continue
		}
		isolated = true
		if out {
			for _, rule := range p.Spec.Egress {
				if among(t, rule.To, p.Namespace, b) && onPort(t, rule.Ports, port) {
					return true
				}
			}
			continue
		}
		for _, rule := range p.Spec.Ingress {
			if among(t, rule.From, p.Namespace, b) && onPort(t, rule.Ports, port) {
				return true
			}
		}
	}
	return !isolated
}

func matches(t *testing.T, s *metav1.LabelSelector, l labels.Set) bool {
	t.Helper()
	selector, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		t.Fatal(err)
	}
	return selector.Matches(l)
}

func among(t *testing.T, peers []networkingv1.NetworkPolicyPeer, home string, n *node) bool {
	t.Helper()
	if len(peers) == 0 {
		return true
	}
	return slices.ContainsFunc(peers, func(p networkingv1.NetworkPolicyPeer) bool {
		if p.IPBlock != nil {
			// A block is for who is not of the cluster: whether pods are in one depends on the plugin.
			return n.namespace == "" && inBlock(t, p.IPBlock, n.address)
		}
		if n.namespace == "" {
			return false
		}
		if p.NamespaceSelector == nil && n.namespace != home {
			return false
		}
		if p.NamespaceSelector != nil && !matches(t, p.NamespaceSelector, labels.Set{"kubernetes.io/metadata.name": n.namespace}) {
			return false
		}
		return p.PodSelector == nil || matches(t, p.PodSelector, n.labels)
	})
}

func inBlock(t *testing.T, b *networkingv1.IPBlock, a netip.Addr) bool {
	t.Helper()
	within := func(text string) bool {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			t.Fatal(err)
		}
		return p.Contains(a)
	}
	return within(b.CIDR) && !slices.ContainsFunc(b.Except, within)
}

func onPort(t *testing.T, ports []networkingv1.NetworkPolicyPort, port int) bool {
	t.Helper()
	return len(ports) == 0 || slices.ContainsFunc(ports, func(p networkingv1.NetworkPolicyPort) bool {
		if p.Port == nil || p.Port.StrVal != "" || p.EndPort != nil {
			t.Fatal(fmt.Errorf("a port that this test cannot read: %v", p))
		}
		return p.Port.IntValue() == port
	})
}
