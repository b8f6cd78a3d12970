extends Node3D
## Hands of `handmesh stream --udp 127.0.0.1:9001` (docs/stream.md): put this where the webcam is.
## Each is a child, `left` or `right`, its 25 children are named as WebXR's joints: -Z runs along
## the bone to the fingertip, +Y leaves the back of the hand. For Godot 4.

signal hand_changed(side, hand)  ## what came of a side, a Dictionary; null where it is gone

const THUMB := "wrist metacarpal phalanx-proximal phalanx-distal tip"
const FINGER := "metacarpal phalanx-proximal phalanx-intermediate phalanx-distal tip"

@export var port := 9001
var hands := {}  # by their side
var newest := {"sequence": -1.0, "captured_unix_ms": 0.0}
var udp := PacketPeerUDP.new()


func _ready():
	if udp.bind(port, "127.0.0.1") != OK:
		push_warning("handmesh: port %d is taken" % port)
	for side in ["left", "right"]:
		hands[side] = _child(self, side)
		hands[side].hide()
		for part in THUMB.split(" "):
			_child(hands[side], part if part == "wrist" else "thumb-" + part)
		for finger in ["index", "middle", "ring", "pinky"]:
			for part in FINGER.split(" "):
				_child(hands[side], finger + "-finger-" + part)


func _child(parent, title):
	var node = Node3D.new()
	node.name = title
	parent.add_child(node)
	return node


func _process(_delta):
	while udp.get_available_packet_count() > 0:
		var frame = JSON.parse_string(udp.get_packet().get_string_from_utf8())
		if typeof(frame) == TYPE_DICTIONARY and frame.get("type") == "frame" and frame.version == 1:
			if frame.sequence > newest.sequence or frame.captured_unix_ms > newest.captured_unix_ms:
				newest = frame  # by its time, too: a server that began anew counts from 1
	for side in hands if newest.has("hands") else []:
		var best = null
		for hand in newest.hands:
			if hand.side == side and (best == null or hand.score > best.score):
				best = hand
		if best != null or hands[side].visible:
			_move(hands[side], best)
			emit_signal("hand_changed", side, best)
	newest.erase("hands")


func _move(nodes, hand):
	nodes.visible = hand != null
	for k in nodes.get_child_count() if hand != null else 0:
		var p = hand.positions_m
		var q = hand.orientations_xyzw
		var turn = Basis(Quaternion(q[4 * k], q[4 * k + 1], q[4 * k + 2], q[4 * k + 3]))
		nodes.get_child(k).transform = Transform3D(turn, Vector3(p[3 * k], p[3 * k + 1], p[3 * k + 2]))
