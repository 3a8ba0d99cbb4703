// Package monitoring tests what watches quickthorn: the configuration and alert rules under deploy/prometheus, and the
// dashboards and their provisioning under deploy/grafana. Rules are tried on made-up series by Prometheus's own engine;
// dashboards are read by Grafana's own types; and what both ask for is compared with the metrics that the built program
// shows, all of its services started. It is a module of its own, so that Prometheus is no dependency of the program:
//
//	cd test/monitoring && go test ./...
package monitoring
