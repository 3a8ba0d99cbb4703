// Package kubernetes holds the tests of deploy/kubernetes, deploy/helm and docs/kubernetes.md. They need no cluster: manifests are
// rendered by kustomize and Helm as libraries and read into the types of Kubernetes' own API. TestAPIServer goes further where a
// kube-apiserver has been built, see apiserver.sh.
//
// It is a module of its own so that the program's own dependencies stay few.
package kubernetes
