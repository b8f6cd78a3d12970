// Hands from handmesh's UDP stream as Unity Transforms. C# 9, Unity 2021 or newer, no packages.
// python demo/stream.py --udp 127.0.0.1:9000        The messages: docs/stream.md, version 1.

using System;
using System.Collections.Generic;
using System.Net;
using System.Net.Sockets;
using System.Text;
using System.Threading;
using UnityEngine;

namespace Handmesh
{
    /// <summary>One hand of a frame, as it is sent: OpenXR's axes, metres, flat lists.</summary>
    [Serializable]
    public class HandMessage
    {
        public int id;
        public string side;
        public float score;
        public float visible_s;
        public bool predicted;
        public float pinch_m;
        public float[] positions_m;
        public float[] orientations_xyzw;
        public float[] radii_m;
    }

    /// <summary>One frame, as it is sent.</summary>
    [Serializable]
    public class FrameMessage
    {
        public string type;
        public int version;
        public long sequence;
        public double captured_unix_ms;
        public double sent_unix_ms;
        public bool metric;
        public HandMessage[] hands;
    }

    /// <summary>OpenXR is right-handed, z towards the viewer; Unity is left-handed, z away: z changes its sign.</summary>
    public static class Axes
    {
        public static Vector3 Position(float[] positions, int joint)
        {
            return new Vector3(positions[3 * joint], positions[3 * joint + 1], -positions[3 * joint + 2]);
        }

        public static Quaternion Orientation(float[] orientations, int joint)
        {
            return new Quaternion(
                -orientations[4 * joint],
                -orientations[4 * joint + 1],
                orientations[4 * joint + 2],
                orientations[4 * joint + 3]);
        }
    }

    /// <summary>
    /// Put this on an object where the webcam is, looking as it looks: under the main camera, say. Each hand
    /// becomes a child with 25 children, named as WebXR names the joints. There, +Z (blue) runs along the bone
    /// towards the fingertip and +Y (green) leaves the back of the hand, as in Unity's XR Hands.
    /// </summary>
    public class HandmeshReceiver : MonoBehaviour
    {
        public const int Version = 1;
        public const int JointCount = 25;

        /// <summary>WebXR's joints, in the order of the messages.</summary>
        public static readonly string[] JointNames =
        {
            "wrist",
            "thumb-metacarpal", "thumb-phalanx-proximal", "thumb-phalanx-distal", "thumb-tip",
            "index-finger-metacarpal", "index-finger-phalanx-proximal", "index-finger-phalanx-intermediate",
            "index-finger-phalanx-distal", "index-finger-tip",
            "middle-finger-metacarpal", "middle-finger-phalanx-proximal", "middle-finger-phalanx-intermediate",
            "middle-finger-phalanx-distal", "middle-finger-tip",
            "ring-finger-metacarpal", "ring-finger-phalanx-proximal", "ring-finger-phalanx-intermediate",
            "ring-finger-phalanx-distal", "ring-finger-tip",
            "pinky-finger-metacarpal", "pinky-finger-phalanx-proximal", "pinky-finger-phalanx-intermediate",
            "pinky-finger-phalanx-distal", "pinky-finger-tip",
        };

        [Tooltip("The port of demo/stream.py --udp HOST:PORT.")]
        public int port = 9000;

        [Tooltip("Also take datagrams from other machines. Anyone in the network can then send hands.")]
        public bool listenToNetwork = false;

        [Tooltip("Hide a hand that has not been heard of for this long.")]
        public float hideAfterSeconds = 0.3f;

        public bool drawGizmos = true;

        /// <summary>The newest hand of each side, "left" or "right"; null while it is not seen.</summary>
        public event Action<string, HandMessage> HandChanged;

        /// <summary>The newest frame; null before the first.</summary>
        public FrameMessage Frame { get; private set; }

        private readonly Dictionary<string, Transform[]> joints = new Dictionary<string, Transform[]>();
        private readonly Dictionary<string, float> lastSeen = new Dictionary<string, float>();
        private UdpClient socket;
        private Thread thread;
        private byte[] newest; // what the thread received last; only the newest counts
        private bool toldOfVersion;

        /// <summary>The 25 joints of a side; they stay where they were while the hand is hidden.</summary>
        public Transform[] Joints(string side)
        {
            if (!joints.TryGetValue(side, out Transform[] found))
            {
                found = CreateJoints(side);
                joints[side] = found;
            }
            return found;
        }

        private void OnEnable()
        {
            socket = new UdpClient(new IPEndPoint(listenToNetwork ? IPAddress.Any : IPAddress.Loopback, port));
            thread = new Thread(Receive) { IsBackground = true, Name = "handmesh" };
            thread.Start(socket);
        }

        private void OnDisable()
        {
            socket?.Close(); // ends the thread's waiting
            thread?.Join(500);
            socket = null;
        }

        private void Receive(object parameter)
        {
            UdpClient client = (UdpClient)parameter;
            IPEndPoint sender = new IPEndPoint(IPAddress.Any, 0);
            while (true)
            {
                try
                {
                    Interlocked.Exchange(ref newest, client.Receive(ref sender));
                }
                catch (SocketException error) when (error.SocketErrorCode == SocketError.ConnectionReset)
                {
                    continue; // Windows says so of datagrams that this socket never sent
                }
                catch (Exception error) when (error is SocketException || error is ObjectDisposedException)
                {
                    return;
                }
            }
        }

        private void Update()
        {
            byte[] datagram = Interlocked.Exchange(ref newest, null);
            if (datagram != null)
            {
                Take(datagram);
            }
            foreach (KeyValuePair<string, Transform[]> pair in joints)
            {
                HideIfUnseen(pair.Key, pair.Value[0].parent.gameObject);
            }
        }

        private void Take(byte[] datagram)
        {
            FrameMessage frame;
            try
            {
                frame = JsonUtility.FromJson<FrameMessage>(Encoding.UTF8.GetString(datagram));
            }
            catch (ArgumentException)
            {
                return; // not ours
            }
            if (frame == null || frame.type != "frame" || frame.hands == null)
            {
                return;
            }
            if (frame.version != Version)
            {
                WarnOfVersion(frame.version);
                return;
            }
            Frame = frame;
            foreach (HandMessage hand in frame.hands)
            {
                if (IsWhole(hand))
                {
                    Show(hand);
                }
            }
        }

        private void WarnOfVersion(int version)
        {
            if (!toldOfVersion)
            {
                Debug.LogWarning($"handmesh: this script reads version {Version} of the stream, and it is {version}");
            }
            toldOfVersion = true;
        }

        private static bool IsWhole(HandMessage hand)
        {
            return (hand.side == "left" || hand.side == "right")
                && hand.positions_m != null && hand.positions_m.Length == 3 * JointCount
                && hand.orientations_xyzw != null && hand.orientations_xyzw.Length == 4 * JointCount
                && hand.radii_m != null && hand.radii_m.Length == JointCount;
        }

        private void Show(HandMessage hand)
        {
            Transform[] transforms = Joints(hand.side);
            for (int joint = 0; joint < JointCount; joint++)
            {
                transforms[joint].localPosition = Axes.Position(hand.positions_m, joint);
                transforms[joint].localRotation = Axes.Orientation(hand.orientations_xyzw, joint);
            }
            transforms[0].parent.gameObject.SetActive(true);
            lastSeen[hand.side] = Time.unscaledTime;
            HandChanged?.Invoke(hand.side, hand);
        }

        private void HideIfUnseen(string side, GameObject hand)
        {
            bool seen = lastSeen.TryGetValue(side, out float time) && Time.unscaledTime - time <= hideAfterSeconds;
            if (!seen && hand.activeSelf)
            {
                hand.SetActive(false);
                HandChanged?.Invoke(side, null);
            }
        }

        private Transform[] CreateJoints(string side)
        {
            Transform hand = new GameObject($"{side} hand").transform;
            hand.SetParent(transform, false);
            Transform[] created = new Transform[JointCount];
            for (int joint = 0; joint < JointCount; joint++)
            {
                created[joint] = new GameObject(JointNames[joint]).transform;
                created[joint].SetParent(hand, false); // side by side: each takes its own pose as it comes
            }
            return created;
        }

        private void OnDrawGizmos()
        {
            if (!drawGizmos || Frame == null)
            {
                return;
            }
            foreach (HandMessage hand in Frame.hands)
            {
                if (IsWhole(hand) && Joints(hand.side)[0].parent.gameObject.activeSelf)
                {
                    DrawGizmos(hand);
                }
            }
        }

        private void DrawGizmos(HandMessage hand)
        {
            Transform[] transforms = Joints(hand.side);
            Gizmos.color = hand.side == "right" ? new Color(0.58f, 0.80f, 1f) : new Color(1f, 0.87f, 0.42f);
            for (int joint = 0; joint < JointCount; joint++)
            {
                Vector3 position = transforms[joint].position;
                Gizmos.DrawWireSphere(position, 0.4f * hand.radii_m[joint]);
                bool startsFinger = JointNames[joint].EndsWith("metacarpal", StringComparison.Ordinal);
                if (joint > 0)
                {
                    Gizmos.DrawLine(transforms[startsFinger ? 0 : joint - 1].position, position);
                }
            }
        }
    }
}
