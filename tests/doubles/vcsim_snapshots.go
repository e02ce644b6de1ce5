// What vSphere does with snapshots and vcsim does not: a VM becomes again what it was, with its power state where the snapshot has
// the memory, else off; and its disks do not grow while it has snapshots.
package main

import (
	"bytes"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"sync"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"
	"github.com/vmware/govmomi/vim25/xml"
)

// kept is a VM as it was.
type kept struct {
	config types.VirtualMachineConfigInfo
	state  types.VirtualMachinePowerState
}

var (
	call   = regexp.MustCompile(`<(?:\w+:)?(CreateSnapshot|RevertToSnapshot|RemoveSnapshot|ReconfigVM)_Task[ >].*?<(?:\w+:)?_this[^>]*>([^<]+)<`)
	memory = regexp.MustCompile(`<(?:\w+:)?memory[^>]*>(?:true|1)<`)
	grows  = regexp.MustCompile(`<(?:\w+:)?key>(\d+)<.*?<(?:\w+:)?capacityInKB[^>]*>(\d+)<`)
	states = map[string]kept{} // by the snapshot's id
	guard  sync.Mutex
)

func copied(config types.VirtualMachineConfigInfo) (made types.VirtualMachineConfigInfo) {
	text, err := xml.Marshal(config)
	if err != nil {
		panic(err)
	}
	decoder := xml.NewDecoder(bytes.NewReader(text))
	decoder.TypeFunc = types.TypeFunc()
	if err := decoder.Decode(&made); err != nil {
		panic(err)
	}
	return made
}

// status hears what the inner server answered.
type status struct {
	http.ResponseWriter
	code int
}

func (s *status) WriteHeader(code int) {
	s.code = code
	s.ResponseWriter.WriteHeader(code)
}

// snapshots serves the calls that need more than vcsim does, and tells whether it was one.
func snapshots(inner http.Handler, w http.ResponseWriter, r *http.Request, body []byte) bool {
	found := call.FindSubmatch(body)
	if found == nil {
		return false
	}
	name, moid := string(found[1]), string(found[2])
	guard.Lock()
	defer guard.Unlock()
	if name == "ReconfigVM" {
		return refused(w, moid, body)
	}
	if name == "RemoveSnapshot" {
		leave(moid)
		return false
	}
	heard := &status{w, http.StatusOK}
	inner.ServeHTTP(heard, r)
	if heard.code != http.StatusOK {
		return true
	}
	machines(func(vm *simulator.VirtualMachine) {
		if name == "CreateSnapshot" && vm.Self.Value == moid && vm.Snapshot != nil && vm.Snapshot.CurrentSnapshot != nil {
			keep(vm, memory.Match(body))
		} else if name == "RevertToSnapshot" && vm.Snapshot != nil && vm.Snapshot.CurrentSnapshot != nil &&
			vm.Snapshot.CurrentSnapshot.Value == moid {
			restore(vm, states[moid])
		}
	})
	return true
}

// keep notes what the VM is now. Without memory a snapshot is of a VM that is off.
func keep(vm *simulator.VirtualMachine, withMemory bool) {
	state := vm.Runtime.PowerState
	if state == types.VirtualMachinePowerStatePoweredOn && !withMemory {
		state = types.VirtualMachinePowerStatePoweredOff
	}
	states[vm.Snapshot.CurrentSnapshot.Value] = kept{copied(*vm.Config), state}
	var settle func(tree []types.VirtualMachineSnapshotTree)
	settle = func(tree []types.VirtualMachineSnapshotTree) {
		for place := range tree {
			if tree[place].Snapshot == *vm.Snapshot.CurrentSnapshot {
				tree[place].State = state
			}
			settle(tree[place].ChildSnapshotList)
		}
	}
	settle(vm.Snapshot.RootSnapshotList)
}

// restore makes the VM what it was.
func restore(vm *simulator.VirtualMachine, was kept) {
	config, now := copied(was.config), time.Now()
	config.Modified, config.ChangeVersion = now, now.UTC().Format(time.RFC3339Nano)
	changes := []types.PropertyChange{
		{Name: "config", Val: config},
		{Name: "summary.config.numCpu", Val: config.Hardware.NumCPU},
		{Name: "summary.config.memorySizeMB", Val: config.Hardware.MemoryMB},
		{Name: "runtime.powerState", Val: was.state},
		{Name: "summary.runtime.powerState", Val: was.state},
	}
	if was.state == types.VirtualMachinePowerStatePoweredOn {
		changes = append(changes, types.PropertyChange{Name: "summary.runtime.bootTime", Val: now})
	}
	simulator.Map.Update(vm, changes)
}

// leave takes a VM off its first snapshot before that is removed, which vcsim (0.24) answers with a broken reference.
func leave(moid string) {
	machines(func(vm *simulator.VirtualMachine) {
		if vm.Snapshot == nil || vm.Snapshot.CurrentSnapshot == nil || vm.Snapshot.CurrentSnapshot.Value != moid {
			return
		}
		for _, root := range vm.Snapshot.RootSnapshotList {
			if root.Snapshot.Value == moid {
				vm.Snapshot.CurrentSnapshot = nil
			}
		}
	})
}

// refused answers for a disk that shall grow while its VM has snapshots, as vSphere does: with a task that fails.
func refused(w http.ResponseWriter, moid string, body []byte) (done bool) {
	machines(func(vm *simulator.VirtualMachine) {
		if vm.Self.Value != moid || vm.Snapshot == nil || len(vm.Snapshot.RootSnapshotList) == 0 {
			return
		}
		for _, wanted := range grows.FindAllSubmatch(body, -1) {
			for _, device := range vm.Config.Hardware.Device {
				disk, ok := device.(*types.VirtualDisk)
				size, _ := strconv.ParseInt(string(wanted[2]), 10, 64)
				done = done || ok && strconv.Itoa(int(disk.Key)) == string(wanted[1]) && size > disk.CapacityInKB
			}
		}
	})
	if !done {
		return false
	}
	vm := simulator.Map.Get(types.ManagedObjectReference{Type: "VirtualMachine", Value: moid})
	task := simulator.CreateTask(vm, "reconfigVm", func(*simulator.Task) (types.AnyType, types.BaseMethodFault) {
		return nil, &types.InvalidDeviceOperation{}
	})
	answer(w, http.StatusOK, fmt.Sprintf(`<ReconfigVM_TaskResponse xmlns="urn:vim25"><returnval type="Task">%s</returnval>`+
		`</ReconfigVM_TaskResponse>`, task.Run().Value))
	return true
}
