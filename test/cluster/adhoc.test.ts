import { test } from "vitest";
import { ClusterRig } from "../support/cluster_rig.ts";
import { clusterImage } from "./image.ts";
import { KernelMember, OurMember } from "./members.ts";
test("x", async () => {
    process.env["OCFS2_LOG"] = "DLM_DOMAIN,DLM_RECOVERY,DLM_GLUE,DLM,DLM_MASTER,BASTS,SUPER,MSG";
    const image = clusterImage(256);
    const rig = new ClusterRig(image, [1, 11]);
    const k = new KernelMember(rig.nameOf(1), await rig.kernel(1));
    const o = new OurMember(rig, 11);
    await k.node.mount();
    await o.mount();
    await o.run("mkdir $D/w; echo 1 > $D/w/a");
    console.log(await k.run("cat $D/w/a"));
    o.kill();
    console.log(await k.run("echo 2 >> $D/w/a"));
    try { await Promise.race([o.mount(), new Promise((_, no) => setTimeout(() => no(new Error("late")), 16000))]); console.log("mounted"); console.log(await o.run("cat $D/w/a")); } catch (e) { console.log(String(e).slice(0, 300)); }
    console.log(await k.run("cat /sys/kernel/debug/o2dlm/*/locking_state | awk '/^NAME/{n=$0} /^LRES/{l=$0} /^LOCK/{print n; print l; print $0}' | grep -B2 'LOCK:.*,11,' | tail -60; mount -t debugfs none /sys/kernel/debug 2>/dev/null; cat /sys/kernel/debug/ocfs2/*/locking_state 2>/dev/null | head -60; dmesg | tail -3"));
    console.log(o.log());
    console.log(k.node.console().split("\n").slice(-10).join("\n"));
    if (o.pid) o.kill();
    k.node.kill(); rig.close();
}, 150000);
