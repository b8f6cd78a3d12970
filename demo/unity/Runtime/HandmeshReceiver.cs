// Hands from handmesh's UDP stream as Unity Transforms. C# 9, Unity 2021 or newer, no packages.
// handmesh stream --udp-binary 127.0.0.1:9000        The messages: docs/stream.md, version 1.

using System;
using System.Net;
using System.Net.Sockets;
using System.Threading;
using UnityEngine;

namespace Handmesh
{
    /// <summary>
    /// Put this on an object where the webcam is, looking as it looks: under the main camera, say. Each hand
    /// becomes a child with 26 children, named as XR Hands names the joints. There, +Z (blue) runs along the bone
    /// towards the fingertip and +Y (green) leaves the back of the hand, as in XR Hands.
    /// </summary>
    public class HandmeshReceiver : MonoBehaviour
    {
        public const int Version = 1;
        public const string Left = "left";
        public const string Right = "right";

        /// <summary>The joints by the names of XRHandJointID, in the order of the messages; the palm, which these do
        /// not have, is last.</summary>
        public static readonly string[] JointNames =
        {
            "Wrist",
            "ThumbMetacarpal", "ThumbProximal", "ThumbDistal", "ThumbTip",
            "IndexMetacarpal", "IndexProximal", "IndexIntermediate", "IndexDistal", "IndexTip",
            "MiddleMetacarpal", "MiddleProximal", "MiddleIntermediate", "MiddleDistal", "MiddleTip",
            "RingMetacarpal", "RingProximal", "RingIntermediate", "RingDistal", "RingTip",
            "LittleMetacarpal", "LittleProximal", "LittleIntermediate", "LittleDistal", "LittleTip",
            "Palm",
        };

        private const int Palm = HandMessage.JointCount;
        private const int LargestDatagram = 65536;

        [Tooltip("The port of handmesh stream --udp-binary HOST:PORT.")]
        public int port = 9000;

        [Tooltip("Also take datagrams from other machines. Anyone in the network can then send hands.")]
        public bool listenToNetwork = false;

        [Tooltip("Hide the hands when no frame has come for this long. A frame without a hand hides it at once.")]
        public float hideAfterSeconds = 0.3f;

        public bool drawGizmos = true;

        /// <summary>
        /// The newest hand of a side, Left or Right, with each frame that has it; null, once, where it is gone. Both
        /// hands have been moved when it is raised.
        /// </summary>
        public event Action<string, HandMessage> HandChanged;

        /// <summary>The newest frame; null before the first.</summary>
        public FrameMessage Frame { get; private set; }

        private readonly Transform[][] hands = new Transform[2][]; // left, right
        private readonly FrameMessage frame = new FrameMessage();
        private readonly object exchange = new object(); // guards the four below
        private byte[] waiting = new byte[LargestDatagram]; // what the thread received last; only the newest counts
        private int waitingLength;
        private uint newestSequence;
        private double newestCaptured;
        private byte[] reading = new byte[LargestDatagram];
        private float lastFrame = float.NegativeInfinity;
        private Socket socket;
        private Thread thread;
        private bool warned;

        /// <summary>The 26 joints of a side, in the order of JointNames; they stay while the hand is hidden.</summary>
        public Transform[] Joints(string side)
        {
            int index = side == Left ? 0 : side == Right ? 1 : throw new ArgumentException($"no side: {side}");
            return hands[index] ?? (hands[index] = CreateJoints(side));
        }

        /// <summary>One joint of a side, by its name in JointNames.</summary>
        public Transform Joint(string side, string jointName)
        {
            int index = Array.IndexOf(JointNames, jointName);
            return index >= 0 ? Joints(side)[index] : throw new ArgumentException($"no joint: {jointName}");
        }

        private void OnEnable()
        {
            newestSequence = 0;
            newestCaptured = 0;
            socket = new Socket(AddressFamily.InterNetwork, SocketType.Dgram, ProtocolType.Udp);
            socket.Bind(new IPEndPoint(listenToNetwork ? IPAddress.Any : IPAddress.Loopback, port));
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
            Socket source = (Socket)parameter;
            byte[] buffer = new byte[LargestDatagram];
            while (true)
            {
                try
                {
                    int length = source.Receive(buffer);
                    buffer = Offer(buffer, length);
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

        /// <summary>Put a datagram down for Update, unless a newer one came before it; gives a buffer for the next.</summary>
        private byte[] Offer(byte[] buffer, int length)
        {
            lock (exchange)
            {
                if (FrameMessage.IsFrame(buffer, length))
                {
                    uint sequence = FrameMessage.SequenceOf(buffer);
                    double captured = FrameMessage.CapturedOf(buffer);
                    if (sequence <= newestSequence && captured <= newestCaptured)
                    {
                        return buffer; // late; a server that began anew counts from 1, but its clock goes on
                    }
                    newestSequence = sequence;
                    newestCaptured = captured;
                }
                else if (waitingLength > 0)
                {
                    return buffer; // not ours: no reason to lose a frame
                }
                byte[] free = waiting;
                waiting = buffer;
                waitingLength = length;
                return free;
            }
        }

        private void Update()
        {
            int length;
            lock (exchange)
            {
                length = waitingLength;
                waitingLength = 0;
                (reading, waiting) = (waiting, reading);
            }
            if (length > 0 && Take(length))
            {
                lastFrame = Time.unscaledTime;
                Show(frame);
            }
            else if (Time.unscaledTime - lastFrame > hideAfterSeconds)
            {
                Show(null);
            }
        }

        private bool Take(int length)
        {
            if (!FrameMessage.IsFrame(reading, length))
            {
                if (reading[0] == '{')
                {
                    Warn("these are JSON datagrams; start the stream with --udp-binary in place of --udp");
                }
                return false;
            }
            if (reading[3] != Version)
            {
                Warn($"this script reads version {Version} of the stream, and it is {reading[3]}");
                return false;
            }
            if (!frame.Read(reading, length))
            {
                return false;
            }
            Frame = frame;
            return true;
        }

        private void Warn(string text)
        {
            if (!warned)
            {
                Debug.LogWarning("handmesh: " + text);
            }
            warned = true;
        }

        /// <summary>Both hands are moved before anyone is told, so that handlers see one frame.</summary>
        private void Show(FrameMessage shown)
        {
            HandMessage left = shown?.Hand(0);
            HandMessage right = shown?.Hand(1);
            bool leftChanged = Move(Left, left);
            bool rightChanged = Move(Right, right);
            if (leftChanged)
            {
                HandChanged?.Invoke(Left, left);
            }
            if (rightChanged)
            {
                HandChanged?.Invoke(Right, right);
            }
        }

        /// <summary>False where there was no hand, and is none.</summary>
        private bool Move(string side, HandMessage hand)
        {
            GameObject root = Joints(side)[0].parent.gameObject;
            if (hand == null)
            {
                bool was = root.activeSelf;
                root.SetActive(false);
                return was;
            }
            Transform[] joints = Joints(side);
            for (int joint = 0; joint < HandMessage.JointCount; joint++)
            {
                joints[joint].localPosition = Axes.Position(hand.positions_m, joint);
                joints[joint].localRotation = Axes.Orientation(hand.orientations_xyzw, joint);
            }
            Vector3 palm = (Axes.Position(hand.positions_m, 10) + Axes.Position(hand.positions_m, 11)) * 0.5f;
            joints[Palm].localPosition = palm; // in the middle of the middle finger's metacarpal, as XR Hands has it
            joints[Palm].localRotation = Axes.Orientation(hand.orientations_xyzw, 0);
            root.SetActive(true);
            return true;
        }

        private Transform[] CreateJoints(string side)
        {
            Transform hand = new GameObject($"{side} hand").transform;
            hand.SetParent(transform, false);
            Transform[] created = new Transform[JointNames.Length];
            for (int joint = 0; joint < created.Length; joint++)
            {
                created[joint] = new GameObject(JointNames[joint]).transform;
                created[joint].SetParent(hand, false); // side by side: each takes its own pose as it comes
            }
            hand.gameObject.SetActive(false);
            return created;
        }

        private void OnDrawGizmos()
        {
            if (!drawGizmos || Frame == null)
            {
                return;
            }
            for (int side = 0; side < 2; side++)
            {
                HandMessage hand = Frame.Hand(side);
                if (hand != null && Joints(hand.side)[0].parent.gameObject.activeSelf)
                {
                    DrawGizmos(hand);
                }
            }
        }

        private void DrawGizmos(HandMessage hand)
        {
            Transform[] joints = Joints(hand.side);
            Gizmos.color = hand.side == Right ? new Color(0.58f, 0.80f, 1f) : new Color(1f, 0.87f, 0.42f);
            for (int joint = 0; joint < HandMessage.JointCount; joint++)
            {
                Vector3 position = joints[joint].position;
                Gizmos.DrawWireSphere(position, 0.4f * hand.radii_m[joint]);
                bool startsFinger = JointNames[joint].EndsWith("Metacarpal", StringComparison.Ordinal);
                if (joint > 0)
                {
                    Gizmos.DrawLine(joints[startsFinger ? 0 : joint - 1].position, position);
                }
            }
        }
    }
}
