// validate holds what is in deploy/ against what would read it, without a cluster and without an engine: the Kubernetes
// manifests against Kubernetes' own types (an unknown field is an error, as with kubectl --validate=strict) and against
// each other, the compose file against Compose's own loader and its schema. And it prints, for those who try what stands
// there, the ConfigMap's config (config), what a container engine is told of Compose's service (run) and of the
// StatefulSet's pod (pod), and what the kubelet would ask (probes).
package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/yaml"
)

func main() {
	var err error
	switch {
	case len(os.Args) == 4 && os.Args[1] == "manifests":
		err = manifests(os.Args[2], os.Args[3])
	case len(os.Args) == 3 && os.Args[1] == "config":
		err = config(os.Args[2])
	case len(os.Args) == 3 && os.Args[1] == "compose":
		err = compose(os.Args[2])
	case len(os.Args) == 4 && os.Args[1] == "run":
		err = run(os.Args[2], os.Args[3])
	case len(os.Args) >= 5 && os.Args[1] == "pod":
		err = pod(os.Args[2], os.Args[3], os.Args[4], os.Args[5:])
	case len(os.Args) == 3 && os.Args[1] == "probes":
		err = probes(os.Args[2])
	default:
		err = fmt.Errorf("usage: validate manifests FILE SECRET | config FILE | compose FILE | run FILE SERVICE | pod FILE SECRET IP NAME=VALUE… | probes FILE")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "validate:", err)
		os.Exit(1)
	}
}

// All that understudy.yaml and the secret have, typed.
type found struct {
	maps     map[string]core.ConfigMap
	secrets  map[string]core.Secret
	services []core.Service
	sets     []apps.StatefulSet
	budgets  []policy.PodDisruptionBudget
	walls    []networking.NetworkPolicy
}

func read(paths ...string) (*found, error) {
	all := &found{maps: map[string]core.ConfigMap{}, secrets: map[string]core.Secret{}}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		for _, document := range bytes.Split(append([]byte("\n"), text...), []byte("\n---")) {
			if err := all.add(append(document, '\n')); err != nil {
				return nil, fmt.Errorf("%s: %w", path, err)
			}
		}
	}
	return all, nil
}

func (all *found) add(document []byte) error {
	var kind meta.TypeMeta
	if err := yaml.Unmarshal(document, &kind); err != nil {
		return err
	}
	switch kind.APIVersion + " " + kind.Kind {
	case " ":
		return nil // comments alone
	case "v1 ConfigMap":
		one, err := strictly[core.ConfigMap](document)
		all.maps[one.Name] = one
		return err
	case "v1 Secret":
		one, err := strictly[core.Secret](document)
		all.secrets[one.Name] = one
		return err
	case "v1 Service":
		one, err := strictly[core.Service](document)
		all.services = append(all.services, one)
		return err
	case "apps/v1 StatefulSet":
		one, err := strictly[apps.StatefulSet](document)
		all.sets = append(all.sets, one)
		return err
	case "policy/v1 PodDisruptionBudget":
		one, err := strictly[policy.PodDisruptionBudget](document)
		all.budgets = append(all.budgets, one)
		return err
	case "networking.k8s.io/v1 NetworkPolicy":
		one, err := strictly[networking.NetworkPolicy](document)
		all.walls = append(all.walls, one)
		return err
	}
	return fmt.Errorf("%s %s is no kind that is known here", kind.APIVersion, kind.Kind)
}

func strictly[T any](document []byte) (one T, err error) {
	err = yaml.UnmarshalStrict(document, &one)
	return one, err
}

func manifests(path, secret string) error {
	all, err := read(path, secret)
	if err != nil {
		return err
	}
	if len(all.sets) != 1 || len(all.services) != 2 || len(all.budgets) != 1 || len(all.walls) != 1 {
		return fmt.Errorf("%s: one StatefulSet, two Services, one PodDisruptionBudget and one NetworkPolicy are expected", path)
	}
	set := all.sets[0]
	pod := set.Spec.Template
	if set.Spec.Replicas == nil || *set.Spec.Replicas != 1 {
		return fmt.Errorf("more than one proxy, and each would have a ledger of its own")
	}
	ports := map[string]bool{}
	for _, port := range pod.Spec.Containers[0].Ports {
		ports[port.Name] = true
	}
	takes := func(what string, selector *meta.LabelSelector) error {
		matcher, err := meta.LabelSelectorAsSelector(selector)
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		if matcher.Empty() || !matcher.Matches(labels.Set(pod.Labels)) {
			return fmt.Errorf("%s does not select the pod", what)
		}
		return nil
	}
	headless := false
	for _, service := range all.services {
		headless = headless || service.Name == set.Spec.ServiceName && service.Spec.ClusterIP == core.ClusterIPNone
		if err := takes("the Service "+service.Name, &meta.LabelSelector{MatchLabels: service.Spec.Selector}); err != nil {
			return err
		}
		for _, port := range service.Spec.Ports {
			if !ports[port.TargetPort.StrVal] {
				return fmt.Errorf("the Service %s goes to the port %s, which the container does not have", service.Name, port.TargetPort.String())
			}
		}
	}
	if !headless {
		return fmt.Errorf("%s, the StatefulSet's service, is no headless Service here", set.Spec.ServiceName)
	}
	for what, selector := range map[string]*meta.LabelSelector{
		"the StatefulSet": set.Spec.Selector, "the PodDisruptionBudget": all.budgets[0].Spec.Selector, "the NetworkPolicy": &all.walls[0].Spec.PodSelector,
	} {
		if err := takes(what, selector); err != nil {
			return err
		}
	}
	for _, rule := range all.walls[0].Spec.Ingress {
		for _, port := range rule.Ports {
			if port.Port == nil || !ports[port.Port.StrVal] {
				return fmt.Errorf("the NetworkPolicy lets in to the port %s, which the container does not have", port.Port.String())
			}
		}
	}
	return volumes(all, set, ports)
}

// What is mounted is there, and what probes ask is a port.
func volumes(all *found, set apps.StatefulSet, ports map[string]bool) error {
	pod := set.Spec.Template.Spec
	there := map[string]bool{}
	for _, claim := range set.Spec.VolumeClaimTemplates {
		there[claim.Name] = true
	}
	for _, volume := range pod.Volumes {
		there[volume.Name] = true
		if source := volume.ConfigMap; source != nil && len(all.maps[source.Name].Data) == 0 {
			return fmt.Errorf("there is no ConfigMap %s with anything in it", source.Name)
		}
		if source := volume.Secret; source != nil && len(all.secrets[source.SecretName].StringData) == 0 {
			return fmt.Errorf("there is no Secret %s with anything in it", source.SecretName)
		}
	}
	container := pod.Containers[0]
	for _, mount := range container.VolumeMounts {
		if !there[mount.Name] {
			return fmt.Errorf("%s is mounted, and no volume", mount.Name)
		}
		if mount.SubPath != "" {
			return fmt.Errorf("%s is mounted by subPath, which never hears of a change", mount.Name)
		}
	}
	for what, probe := range map[string]*core.Probe{
		"readinessProbe": container.ReadinessProbe, "startupProbe": container.StartupProbe,
	} {
		if probe == nil || probe.HTTPGet == nil || !ports[probe.HTTPGet.Port.StrVal] {
			return fmt.Errorf("the %s asks no port of the container", what)
		}
	}
	if container.LivenessProbe != nil {
		return fmt.Errorf("a livenessProbe asks the operators' port, and would end a process that serves clients")
	}
	// Each secret that the config names is one of the Secret's.
	text := all.maps["understudy"].Data["understudy.toml"]
	for _, word := range strings.Split(text, "\"") {
		if name, ok := strings.CutPrefix(word, "/run/understudy/secrets/"); ok && all.secrets["understudy"].StringData[name] == "" {
			return fmt.Errorf("the config names the secret %s, which the Secret does not have", name)
		}
	}
	return nil
}

func config(path string) error {
	all, err := read(path)
	if err != nil {
		return err
	}
	_, err = os.Stdout.WriteString(all.maps["understudy"].Data["understudy.toml"])
	return err
}

// load has Compose's own loader read a file, and hold it against its schema.
func load(path string) (*types.Project, error) {
	options, err := cli.NewProjectOptions([]string{path})
	if err != nil {
		return nil, err
	}
	return options.LoadProject(context.Background())
}

func compose(path string) error {
	project, err := load(path)
	if err != nil {
		return err
	}
	for name, service := range project.Services {
		if service.Build != nil {
			if err := isThere(name, filepath.Join(service.Build.Context, service.Build.Dockerfile)); err != nil {
				return err
			}
		} else if _, tag, ok := strings.Cut(service.Image, ":"); !ok || tag == "latest" {
			return fmt.Errorf("the image %s of %s has no version", service.Image, name)
		}
		for _, volume := range service.Volumes {
			if volume.Type == "bind" {
				if err := isThere(name, volume.Source); err != nil {
					return err
				}
			}
		}
		for _, port := range service.Ports {
			if port.HostIP != "127.0.0.1" {
				return fmt.Errorf("%s publishes %s beyond this machine", name, port.Published)
			}
		}
		for _, secret := range service.Secrets {
			if _, ok := project.Secrets[secret.Source]; !ok {
				return fmt.Errorf("%s asks for the secret %s, which there is not", name, secret.Source)
			}
		}
	}
	return nil
}

func isThere(service, path string) error {
	if _, err := os.Stat(path); err != nil {
		return fmt.Errorf("%s: %w", service, err)
	}
	return nil
}
